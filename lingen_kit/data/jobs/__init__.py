"""Work over many files in worker processes: resumable, and no file can end the run."""

from lingen_kit.data.jobs.journal import Journal, Outcome
from lingen_kit.data.jobs.progress import progress
from lingen_kit.data.jobs.run import file_key, key_of_file, run_jobs

__all__ = ["Journal", "Outcome", "file_key", "key_of_file", "progress", "run_jobs"]
