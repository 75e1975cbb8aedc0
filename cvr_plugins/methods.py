"""The table of this package's named methods."""

from __future__ import annotations

from cvr_plugins.contracts import Method
from cvr_plugins.objectives.adap_sl import AdapSL
from cvr_plugins.objectives.asymmetric import AsymmetricIPS
from cvr_plugins.objectives.balancing import BalancedDR, BalancedIPS
from cvr_plugins.objectives.counterfactual import DR, IPS
from cvr_plugins.objectives.dcmt import DCMT
from cvr_plugins.objectives.eib import EIB
from cvr_plugins.objectives.entire_space import ESMM, Naive, UnclickedNegative
from cvr_plugins.objectives.esm2 import ESM2
from cvr_plugins.objectives.idefn import IdeFN
from cvr_plugins.objectives.nise import NISE
from cvr_plugins.objectives.targeted import TargetedDR

_ESMM = (
    "Ma et al., Entire Space Multi-Task Model: An Effective Approach for Estimating Post-Click Conversion Rate, "
    "SIGIR 2018, https://arxiv.org/abs/1804.07931"
)
_ESCM2 = (
    "Wang et al., ESCM2: Entire Space Counterfactual Multi-Task Model for Post-Click Conversion Rate Estimation, "
    "SIGIR 2022, https://arxiv.org/abs/2204.05125"
)
_MULTI = (
    "Zhang et al., Large-scale Causal Approaches to Debiasing Post-click Conversion Rate Estimation with Multi-task "
    "Learning, WWW 2020, https://arxiv.org/abs/1910.09337"
)
_GENERALIZED = (
    "Dai et al., A Generalized Doubly Robust Learning Framework for Debiasing Post-Click Conversion Rate Prediction, "
    "KDD 2022, https://arxiv.org/abs/2211.06684"
)
_BALANCING = (
    "Li et al., Propensity Matters: Measuring and Enhancing Balancing for Recommendation, ICML 2023, "
    "https://proceedings.mlr.press/v202/li23ah.html"
)
_JOINT = {"lambda_ctcvr": 0.0, "imputes": "conversion", "alternate": True}
"""DR_JL's options, which the methods that refine its imputation share."""

_NISE = (
    "Huang et al., Utilizing Non-click Samples via Semi-supervised Learning for Conversion Rate Prediction, RecSys "
    "2024, https://doi.org/10.1145/3640457.3688151"
)

_UNWEIGHTED = ({"propensity_floor": 1.0},)
_CONSTANT = (*_UNWEIGHTED, {"imputes": "constant", "alternate": False, "imputation_weights": "inverse"})

METHODS: tuple[Method, ...] = (
    Method(
        name="Naive",
        objective=Naive,
        summary="CVR trained on clicked rows only",
        reference=f"The baseline BASE of {_ESMM}",
    ),
    Method(
        name="UnclickedNegative",
        objective=UnclickedNegative,
        summary="CVR over all exposures, unclicked rows as negatives: the control of methods that learn from them",
        reference=_NISE,
    ),
    Method(
        name="ESMM",
        objective=ESMM,
        summary="CVR learned through CTR and CTCVR over all exposures",
        reference=_ESMM,
    ),
    Method(
        name="ESCM2_IPS",
        objective=IPS,
        ablations=_UNWEIGHTED,
        summary="ESMM with a CVR loss on clicked rows, weighted by inverse click propensity",
        reference=_ESCM2,
    ),
    Method(
        name="ESCM2_DR",
        objective=DR,
        ablations=_CONSTANT,
        summary="ESMM with a doubly robust CVR loss: an imputed error, corrected on clicked rows",
        reference=_ESCM2,
    ),
    Method(
        name="MultiIPW",
        objective=IPS,
        defaults={"lambda_ctcvr": 0.0},
        ablations=_UNWEIGHTED,
        summary="CTR and inverse-propensity-weighted CVR, no CTCVR term",
        reference=_MULTI,
    ),
    Method(
        name="MultiDR",
        objective=DR,
        defaults={"lambda_ctcvr": 0.0},
        ablations=_CONSTANT,
        summary="CTR and doubly robust CVR in one step, no CTCVR term",
        reference=_MULTI,
    ),
    Method(
        name="DR_JL",
        objective=DR,
        defaults=_JOINT,
        ablations=_CONSTANT,
        summary="Doubly robust CVR; imputation and prediction trained alternately",
        reference="Wang et al., Doubly Robust Joint Learning for Recommendation on Data Missing Not at Random, "
        "ICML 2019, https://proceedings.mlr.press/v97/wang19n.html",
    ),
    Method(
        name="MRDR",
        objective=DR,
        defaults={**_JOINT, "imputation_weights": "variance"},
        ablations=_CONSTANT,
        summary="DR_JL with an imputation that minimises the variance of the doubly robust loss",
        reference="Guo et al., Enhanced Doubly Robust Learning for Debiasing Post-click Conversion Rate Estimation, "
        "SIGIR 2021, https://arxiv.org/abs/2105.13623",
    ),
    Method(
        name="DR_BIAS",
        objective=DR,
        defaults={**_JOINT, "imputation_weights": "bias"},
        ablations=_CONSTANT,
        summary="DR_JL with an imputation that minimises the bias of the doubly robust loss",
        reference=_GENERALIZED,
    ),
    Method(
        name="DR_MSE",
        objective=DR,
        defaults={**_JOINT, "imputation_weights": "mse"},
        ablations=_CONSTANT,
        summary="DR_JL with an imputation that trades the bias of the doubly robust loss against its variance",
        reference=_GENERALIZED,
    ),
    Method(
        name="TDR_JL",
        objective=TargetedDR,
        ablations=_UNWEIGHTED,
        summary="DR_JL with the imputed errors corrected to fit the clicked rows of each batch",
        reference="Li et al., TDR-CL: Targeted Doubly Robust Collaborative Learning for Debiased Recommendations, "
        "ICLR 2023, https://arxiv.org/abs/2203.10258",
    ),
    Method(
        name="IPS_V2",
        objective=BalancedIPS,
        ablations=(*_UNWEIGHTED, {"lambda_balance": 0.0}),
        summary="ESCM2_IPS with a propensity that is also trained to balance clicked and unclicked rows",
        reference=_BALANCING,
    ),
    Method(
        name="DR_V2",
        objective=BalancedDR,
        ablations=(*_UNWEIGHTED, {"lambda_balance": 0.0}),
        summary="ESCM2_DR on imputed conversions with a propensity that is also trained to balance",
        reference=_BALANCING,
    ),
    Method(
        name="AS_IPS",
        objective=AsymmetricIPS,
        ablations=({"agreement": 1.0},),
        summary="Two weighted CVR towers label, where they agree, the exposures that the third is trained on",
        reference="Saito, Asymmetric Tri-training for Debiasing Missing-Not-At-Random Explicit Feedback, SIGIR 2020, "
        "https://arxiv.org/abs/1910.01444",
    ),
    Method(
        name="EIB",
        objective=EIB,
        summary="An imputed error on unclicked rows, no propensity",
        reference="Steck, Training and Testing of Recommender Systems on Data Missing Not at Random, KDD 2010, "
        "https://doi.org/10.1145/1835804.1835895",
    ),
    Method(
        name="AdapSL",
        objective=AdapSL,
        architecture="masked",
        ablations=({"prune_rate": 0.0},),
        summary="DR_JL on two sub-networks that share half of each width and are pruned as they are trained",
        reference="Zheng et al., Adaptive Structure Learning with Partial Parameter Sharing for Post-Click Conversion "
        "Rate Prediction, SIGIR 2025, https://doi.org/10.1145/3726302.3729887",
    ),
    Method(
        name="DCMT",
        objective=DCMT,
        ablations=_UNWEIGHTED,
        summary="Factual and counterfactual CVR towers, propensity-weighted in their spaces, softly adding up to 1",
        reference="Zhu et al., DCMT: A Direct Entire-Space Causal Multi-Task Framework for Post-Click Conversion "
        "Estimation, ICDE 2023, https://arxiv.org/abs/2302.06141",
    ),
    Method(
        name="ESM2",
        objective=ESM2,
        ablations=({"weight_ctavr": 0.0},),
        summary="CVR through the post-click action: click, action given click, conversion with and without it",
        reference="Wen et al., Entire Space Multi-Task Modeling via Post-Click Behavior Decomposition for Conversion "
        "Rate Prediction, SIGIR 2020, https://arxiv.org/abs/1910.07099",
    ),
    Method(
        name="NISE",
        objective=NISE,
        weighting="dynamic",
        ablations=({"unclicked": False},),
        summary="CVR over all exposures, unclicked rows by the entropy of their prediction; losses balanced per batch",
        reference=_NISE,
    ),
    Method(
        name="IdeFN",
        objective=IdeFN,
        ablations=({"relabel": "none"}, {"unclicked": False}),
        summary="CVR over all exposures; false negatives among unclicked rows found by partial optimal transport",
        reference="Zhong et al., IdeFN: Identifying Unclicked Space False Negatives via Relaxed Partial Optimal "
        "Transport for Conversion Rate Prediction, AAAI 2026, https://eprints.lancs.ac.uk/id/eprint/235609",
    ),
)
