"""What single-cell users need: spliced and unspliced counts, velocity, metrics with controls, Displays."""

from skfusion._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "LatentTimeDisplay": "skfusion.singlecell.plot.latent_time:LatentTimeDisplay",
        "PhasePortraitDisplay": "skfusion.singlecell.plot.phase:PhasePortraitDisplay",
        "SplicingFusion": "skfusion.singlecell.splicing:SplicingFusion",
        "VelocityDisplay": "skfusion.singlecell.plot.velocity:VelocityDisplay",
        "cross_boundary_correctness": "skfusion.singlecell.metrics:cross_boundary_correctness",
        "dynamical_velocity": "skfusion.singlecell.dynamics:dynamical_velocity",
        "first_moments": "skfusion.singlecell.moments:first_moments",
        "generation_report": "skfusion.singlecell.generation:generation_report",
        "in_cluster_coherence": "skfusion.singlecell.metrics:in_cluster_coherence",
        "nearest_neighbors": "skfusion.singlecell.neighbors:nearest_neighbors",
        "normalize_layer": "skfusion.singlecell.neighbors:normalize_layer",
        "project_velocity": "skfusion.singlecell.projection:project_velocity",
        "read_backed": "skfusion.singlecell.backed:read_backed",
        "second_moments": "skfusion.singlecell.moments:second_moments",
        "select_genes": "skfusion.singlecell.neighbors:select_genes",
        "splicing_moments": "skfusion.singlecell.moments:splicing_moments",
        "steady_state_velocity": "skfusion.singlecell.steady_state:steady_state_velocity",
        "velocity_confidence": "skfusion.singlecell.metrics:velocity_confidence",
        "velocity_report": "skfusion.singlecell.metrics:velocity_report",
        "weighted_neighbors": "skfusion.singlecell.weighted:weighted_neighbors",
        "zero_shot_report": "skfusion.singlecell.report:zero_shot_report",
    },
)
