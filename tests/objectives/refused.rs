//! What cannot be trained.

use crossmodal::Device;
use crossmodal::align::{HeadKind, Objective, Recipe, Trainer};
use crossmodal::losses::Distance;

use crate::setups::{data, infonce, recipe};

#[test]
fn what_cannot_be_trained_is_refused() {
    let triplet = Objective::Triplet {
        distance: Distance::Cosine,
        margin: -1.,
        softplus: false,
        swap: false,
        semi_hard: false,
    };
    for (recipe, words) in [
        (
            Recipe { objective: infonce(1., false, 0., 0), ..recipe() },
            "smoothing: expected 0 to less than 1, got 1.0",
        ),
        (Recipe { objective: infonce(0.1, true, 0., 0), ..recipe() }, "decoupled"),
        (Recipe { objective: infonce(0., false, -1., 0), ..recipe() }, "hard negatives"),
        (
            Recipe { objective: infonce(0., false, 0., 15), ..recipe() },
            "queue: expected 0 or at least a batch, got 15",
        ),
        (Recipe { objective: triplet, ..recipe() }, "margin"),
        (Recipe { objective: infonce(0., false, 0., 49), ..recipe() }, "queue: expected at most 48"),
        (Recipe { accum: 0, ..recipe() }, "accum: expected at least 1"),
        (Recipe { head: HeadKind::Mlp { hidden: 0 }, ..recipe() }, "hidden"),
        (
            Recipe { head: HeadKind::Residual { hidden: 4, ratio: 0.5 }, ..recipe() },
            "6 in every modality, as --dim says, for residual heads, got 12 in left",
        ),
        (Recipe { freeze: Some(0), ..recipe() }, "12, the width of the frozen modality left, got 6"),
        (Recipe { freeze: Some(2), ..recipe() }, "freeze: expected a modality below 2, got 2"),
        (
            Recipe {
                objective: Objective::InfoNce {
                    smoothing: 0.,
                    decoupled: false,
                    hard_negatives: 0.,
                    queue: 0,
                    enqueue_first: true,
                },
                ..recipe()
            },
            "queue: expected at least a batch, to be enqueued before the loss, got 0",
        ),
    ] {
        let message = Trainer::new(&Device::Cpu, &data([12, 9]), &recipe).err().expect(words).to_string();
        assert!(message.contains(words), "{message:?} does not say {words:?}");
    }
}
