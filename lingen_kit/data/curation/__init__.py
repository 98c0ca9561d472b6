from lingen_kit.data.curation.aesthetic import Aesthetic
from lingen_kit.data.curation.caption_quality import CaptionQuality
from lingen_kit.data.curation.concept_balance import Concept as Concept
from lingen_kit.data.curation.concept_balance import ConceptBalance
from lingen_kit.data.curation.duration import Duration
from lingen_kit.data.curation.exposure import Exposure
from lingen_kit.data.curation.filter import Candidate as Candidate
from lingen_kit.data.curation.filter import Filter, Meter, SetFilter
from lingen_kit.data.curation.frozen import Frozen
from lingen_kit.data.curation.motion import Motion
from lingen_kit.data.curation.near_duplicates import NearDuplicates
from lingen_kit.data.curation.resolution import Resolution
from lingen_kit.data.curation.scene_cuts import SceneCuts
from lingen_kit.data.curation.sharpness import Sharpness

# What a config may name is chosen out of these: filters, and the abstract classes to write one.
__all__ = [
    "Aesthetic",
    "CaptionQuality",
    "ConceptBalance",
    "Duration",
    "Exposure",
    "Filter",
    "Frozen",
    "Meter",
    "Motion",
    "NearDuplicates",
    "Resolution",
    "SceneCuts",
    "SetFilter",
    "Sharpness",
]
