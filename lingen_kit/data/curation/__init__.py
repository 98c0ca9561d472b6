from lingen_kit.data.curation.aesthetic import Aesthetic
from lingen_kit.data.curation.caption_quality import CaptionQuality
from lingen_kit.data.curation.concept_balance import Concept, ConceptBalance
from lingen_kit.data.curation.duration import Duration
from lingen_kit.data.curation.exposure import Exposure
from lingen_kit.data.curation.filter import Candidate, Filter, Meter, SetFilter
from lingen_kit.data.curation.frozen import Frozen
from lingen_kit.data.curation.motion import Motion
from lingen_kit.data.curation.near_duplicates import NearDuplicates
from lingen_kit.data.curation.resolution import Resolution
from lingen_kit.data.curation.scene_cuts import SceneCuts
from lingen_kit.data.curation.sharpness import Sharpness

__all__ = [
    "Aesthetic",
    "Candidate",
    "CaptionQuality",
    "Concept",
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
