//! Data with two hidden views of the same points, every loss and head, and a few steps of training.

use crossmodal::Device;
use crossmodal::align::{Data, HeadKind, Modality, Objective, Recipe, Split, Trainer};
use crossmodal::io::Features;
use crossmodal::losses::Distance;

pub(crate) const ROWS: usize = 80;

/// Two views of hidden points of 8 coordinates, 12 and 9 features; or both of the same width.
pub(crate) fn data(widths: [usize; 2]) -> Data {
    let hidden = |row: usize, at: usize| ((row * 13 + at * 7) as f32 * 0.61).sin();
    let side = |cols: usize, phase: usize| -> Features {
        let value = |row: usize, col: usize| {
            (0..8).map(|at| hidden(row, at) * ((col * 5 + at * 3 + phase) as f32 * 0.37).cos()).sum()
        };
        let values = (0..ROWS * cols).map(|i| value(i / cols, i % cols)).collect();
        Features { rows: ROWS, cols, values }
    };
    Data::new(side(widths[0], 0), side(widths[1], 4), Split::random(ROWS, 0).unwrap()).unwrap()
}

/// The same features a little different: another view of them, or another modality.
pub(crate) fn changed(features: &Features) -> Features {
    let values = features.values.iter().enumerate().map(|(i, v)| 0.9 * v + 0.1 * (i as f32).sin());
    Features { values: values.collect(), ..features.clone() }
}

pub(crate) fn recipe() -> Recipe {
    Recipe { dim: 6, epochs: 3, batch_size: 16, ..Recipe::default() }
}

pub(crate) fn infonce(smoothing: f64, decoupled: bool, hard_negatives: f64, queue: usize) -> Objective {
    Objective::InfoNce { smoothing, decoupled, hard_negatives, queue, enqueue_first: false }
}

pub(crate) fn objectives() -> Vec<Objective> {
    let queued = |enqueue_first| Objective::InfoNce {
        smoothing: 0.,
        decoupled: false,
        hard_negatives: 0.,
        queue: if enqueue_first { 48 } else { 40 },
        enqueue_first,
    };
    let triplet = |distance, softplus, swap, semi_hard| Objective::Triplet {
        distance,
        margin: 0.3,
        softplus,
        swap,
        semi_hard,
    };
    vec![
        infonce(0., false, 0., 0),
        infonce(0.1, false, 2., 0),
        infonce(0., true, 0., 0),
        queued(false),
        queued(true),
        Objective::Siglip,
        Objective::SupCon,
        triplet(Distance::Cosine, false, false, false),
        triplet(Distance::Euclidean, true, true, false),
        triplet(Distance::SquaredEuclidean, false, false, true),
        Objective::Cosine,
        Objective::VicReg,
        Objective::BarlowTwins,
    ]
}

/// Every loss with linear heads, other heads with the plain loss, and data with classes and with views.
pub(crate) fn setups() -> Vec<(String, Data, Recipe)> {
    let mut setups: Vec<_> = objectives()
        .into_iter()
        .map(|objective| (objective.to_string(), data([12, 9]), Recipe { objective, ..recipe() }))
        .collect();
    let mlp = HeadKind::Mlp { hidden: 10 };
    let residual = HeadKind::Residual { hidden: 4, ratio: 0.3 };
    setups.push(("mlp".into(), data([12, 9]), Recipe { head: mlp, ..recipe() }));
    setups.push(("residual".into(), data([6, 6]), Recipe { head: residual, ..recipe() }));
    let freeze = Some(1);
    setups.push(("frozen".into(), data([12, 6]), Recipe { freeze, ..recipe() }));
    let clipped = Recipe { warmup_steps: 2, grad_clip_norm: Some(0.1), ..recipe() };
    setups.push(("clipped".into(), data([12, 9]), clipped));
    let classes = || (0..ROWS as i64).map(|row| row % 9 - 1).collect::<Vec<_>>();
    for objective in objectives() {
        let with = data([12, 9]).with_classes(classes()).unwrap();
        setups.push((format!("{objective}, classes"), with, Recipe { objective, ..recipe() }));
        let data = data([12, 9]);
        let (left, right) = (data.of("left").unwrap().clone(), data.of("right").unwrap().clone());
        let with = data.clone().with_views("left", vec![changed(&left)]).unwrap();
        let of_both = with.clone().with_views("right", vec![changed(&right), changed(&right)]).unwrap();
        setups.push((format!("{objective}, two views"), with, Recipe { objective, ..recipe() }));
        setups.push((format!("{objective}, views of both"), of_both, Recipe { objective, ..recipe() }));
        let third = Modality::new("third", changed(&left));
        let three = [data.modalities, vec![third]].concat();
        let three = Data::of_modalities(three, data.split).unwrap();
        setups.push((format!("{objective}, three modalities"), three, Recipe { objective, ..recipe() }));
    }
    setups
}

/// The weights of both heads after some steps.
pub(crate) fn trained(device: &Device, data: &Data, recipe: &Recipe, steps: usize) -> (Vec<f64>, Vec<f32>) {
    let mut trainer = Trainer::new(device, data, recipe).unwrap();
    let batches: Vec<_> = data.split.train.chunks_exact(16).take(steps).collect();
    let losses = batches.iter().map(|batch| trainer.step(batch).unwrap().item().unwrap()).collect();
    let heads = trainer.heads().unwrap();
    let layers = heads.heads.iter().flat_map(|head| &head.layers);
    // Not the biases: Barlow Twins does not depend on them, and Adam makes steps of the noise in gradients of 0.
    (losses, layers.flat_map(|layer| &layer.weight).copied().collect())
}
