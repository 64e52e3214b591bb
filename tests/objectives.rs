//! Training with every loss and head: the same on every device, in parts, and after an interruption.
#![cfg(feature = "io")]

mod common;

use crossmodal::Device;
use crossmodal::align::{Data, HeadKind, Heads, Modality, Objective, Recipe, Split, Trainer};
use crossmodal::io::Features;
use crossmodal::losses::Distance;

const ROWS: usize = 80;

/// Two views of hidden points of 8 coordinates, 12 and 9 features; or both of the same width.
fn data(widths: [usize; 2]) -> Data {
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
fn changed(features: &Features) -> Features {
    let values = features.values.iter().enumerate().map(|(i, v)| 0.9 * v + 0.1 * (i as f32).sin());
    Features { values: values.collect(), ..features.clone() }
}

fn recipe() -> Recipe {
    Recipe { dim: 6, epochs: 3, batch_size: 16, ..Recipe::default() }
}

fn infonce(smoothing: f64, decoupled: bool, hard_negatives: f64, queue: usize) -> Objective {
    Objective::InfoNce { smoothing, decoupled, hard_negatives, queue, enqueue_first: false }
}

fn objectives() -> Vec<Objective> {
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
fn setups() -> Vec<(String, Data, Recipe)> {
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
fn trained(device: &Device, data: &Data, recipe: &Recipe, steps: usize) -> (Vec<f64>, Vec<f32>) {
    let mut trainer = Trainer::new(device, data, recipe).unwrap();
    let batches: Vec<_> = data.split.train.chunks_exact(16).take(steps).collect();
    let losses = batches.iter().map(|batch| trainer.step(batch).unwrap().item().unwrap()).collect();
    let heads = trainer.heads().unwrap();
    let layers = heads.heads.iter().flat_map(|head| &head.layers);
    // Not the biases: Barlow Twins does not depend on them, and Adam makes steps of the noise in gradients of 0.
    (losses, layers.flat_map(|layer| &layer.weight).copied().collect())
}

#[test]
fn a_loss_falls_and_heads_are_saved_whole() {
    let folder = tempfile::tempdir().unwrap();
    for (name, data, recipe) in setups() {
        let recipe = Recipe { epochs: 12, learning_rate: 0.01, ..recipe };
        let mut trainer = Trainer::new(&Device::Cpu, &data, &recipe).unwrap();
        let (first, mut last) = (trainer.epoch().unwrap(), None);
        while !trainer.is_done() {
            last = Some(trainer.epoch().unwrap());
        }
        // A queue makes the loss harder as it fills, and triplets are harder the better the others are.
        let grows = name.contains("queue=40 enqueue_first=false") || name.contains("triplet");
        assert!(
            grows || last.unwrap().loss < first.loss,
            "{name}: {} and then {}",
            first.loss,
            last.unwrap().loss
        );
        let heads = trainer.heads().unwrap();
        let path = folder.path().join("heads.safetensors");
        heads.save(&path).unwrap();
        let loaded = Heads::load(&path).unwrap();
        assert!(loaded == heads, "{name}");
        let project = |heads: &Heads| -> Vec<_> {
            let all = heads.heads.iter().zip(&data.modalities);
            all.map(|(head, own)| head.project(&Device::Cpu, &own.features).unwrap()).collect()
        };
        assert!(project(&loaded) == project(&heads), "{name}");
    }
}

/// Two steps, of which the second sees what the first did.
#[test]
fn every_device_trains_alike() {
    let gpu = common::gpu();
    for (name, data, recipe) in setups() {
        let ((cpu_losses, cpu), (gpu_losses, gpu)) =
            (trained(&Device::Cpu, &data, &recipe, 2), trained(&gpu, &data, &recipe, 2));
        for (a, b) in cpu_losses.iter().zip(&gpu_losses) {
            assert!((a - b).abs() <= 2e-4 * (1. + a.abs()), "{name}: losses of {a} and {b}");
        }
        // Adam turns the sign of a gradient that is 0 but for rounding into a whole step: a weight in a hundred may differ.
        let mut differences: Vec<_> = cpu.iter().zip(&gpu).map(|(a, b)| (a - b).abs()).collect();
        differences.sort_by(f32::total_cmp);
        let at = differences.len() * 97 / 100;
        assert!(differences[at] < 2e-5, "{name}: weights differ by {}", differences[at]);
    }
}

/// A step of AdamW is no shorter with a shorter gradient, but one of a gradient that is almost nothing beside its epsilon is.
#[test]
fn gradients_are_clipped_together_and_the_rate_rises() {
    let data = data([12, 9]);
    let plain = Recipe { dropout: 0., ..recipe() };
    let weights = |recipe: Recipe| trained(&Device::Cpu, &data, &recipe, 1).1;
    let at = |recipe: Recipe| {
        let start = weights(Recipe { learning_rate: 1e-12, ..recipe });
        weights(recipe).iter().zip(start).map(|(a, b)| f64::from((a - b).abs())).fold(0., f64::max)
    };
    let whole = at(plain);
    assert!((at(Recipe { grad_clip_norm: Some(1e9), ..plain }) - whole).abs() < 1e-9 && whole > 9e-4);
    assert!(at(Recipe { grad_clip_norm: Some(1e-9), ..plain }) < 0.2 * whole);
    assert!((at(Recipe { warmup_steps: 4, ..plain }) - whole / 4.).abs() < 1e-6);
}

/// The gradient in parts is that of the whole batch, the scale of the loss included: the first step's weights tell, and SGD
/// would tell more, but Adam's first step is the sign of the gradient, so the loss of the second is compared too.
#[test]
fn a_batch_in_parts_is_the_whole_batch() {
    for device in [Device::Cpu, common::gpu()] {
        for (name, data, recipe) in setups() {
            let (losses, weights) = trained(&device, &data, &recipe, 3);
            // Parts of 16, of 6, 6 and 4, and of one row each.
            for accum in [1, 3, 16] {
                let (own_losses, own) = trained(&device, &data, &Recipe { accum, ..recipe }, 3);
                for (a, b) in losses.iter().zip(&own_losses) {
                    assert!(
                        (a - b).abs() <= 1e-4 * (1. + a.abs()),
                        "{name} in {accum} parts: losses of {a} and {b}"
                    );
                }
                let mut differences: Vec<_> = weights.iter().zip(&own).map(|(a, b)| (a - b).abs()).collect();
                differences.sort_by(f32::total_cmp);
                let at = differences.len() * 97 / 100;
                assert!(
                    differences[at] < 2e-5,
                    "{name} in {accum} parts: weights differ by {}",
                    differences[at]
                );
            }
        }
    }
}

#[test]
fn an_interrupted_run_continues_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    for (name, data, recipe) in setups() {
        let mut whole = Trainer::new(&Device::Cpu, &data, &recipe).unwrap();
        whole.epoch().unwrap();
        whole.save_checkpoint(&path, &Default::default()).unwrap();
        let mut again = Trainer::resume(&Device::Cpu, &data, &recipe, &path).unwrap();
        while !whole.is_done() {
            assert_eq!(whole.epoch().unwrap().loss, again.epoch().unwrap().loss, "{name}");
        }
        assert!(whole.heads().unwrap() == again.heads().unwrap(), "{name}");
        assert!(whole.best().unwrap() == again.best().unwrap(), "{name}");
    }
    let (_, data, recipe) = setups().remove(3);
    let other = Recipe { objective: Objective::Siglip, ..recipe };
    let message = Trainer::resume(&Device::Cpu, &data, &other, &path).err().unwrap().to_string();
    assert!(message.contains("is of another run") && message.contains("loss is"), "{message}");
}

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

#[test]
fn a_row_of_no_class_is_still_its_partners() {
    let with = |classes: Vec<i64>| {
        let data = data([12, 9]).with_classes(classes).unwrap();
        trained(&Device::Cpu, &data, &Recipe { objective: Objective::Siglip, ..recipe() }, 2).0
    };
    let plain =
        trained(&Device::Cpu, &data([12, 9]), &Recipe { objective: Objective::Siglip, ..recipe() }, 2).0;
    assert_eq!(with(vec![-1; ROWS]), plain);
    assert_eq!(with((0..ROWS as i64).collect()), plain);
}

#[test]
fn formulas_hold_where_rows_are_fewer_than_features() {
    use crossmodal::align::{ClosedForm, Scaling, closed_form};
    // 64 training rows in 90 and 70 features.
    let data = data([90, 70]);
    for kind in [ClosedForm::Ridge, ClosedForm::Procrustes, ClosedForm::Cca, ClosedForm::Cache] {
        for scaling in [Scaling::Feature, Scaling::Modality] {
            let fit = closed_form(&data, kind, scaling, 64).unwrap();
            let best = fit.tried[fit.best].validation;
            assert!(best.mean_recall_at_10() == 100., "{kind}: {best:?}");
            let weights = fit.heads.heads[0].layers.iter().flat_map(|layer| &layer.weight);
            assert!(weights.into_iter().all(|weight| weight.abs() < 10.));
            // A sum of cosines of one frequency is one of two of them: two directions, and what rounding makes of others.
            let dim = fit.heads.heads[0].dim;
            assert!(
                if kind == ClosedForm::Ridge { dim == 70 } else { (2..8).contains(&dim) },
                "{kind}: {dim}"
            );
        }
    }
    assert!(closed_form(&data, ClosedForm::Cca, Scaling::Feature, 0).is_err());
    let refused =
        |data: &Data| closed_form(data, ClosedForm::Cca, Scaling::Feature, 4).unwrap_err().to_string();
    let third = Modality::new("third", data.of("left").unwrap().clone());
    let three = [data.modalities.clone(), vec![third]].concat();
    let three = Data::of_modalities(three, data.split.clone()).unwrap();
    assert!(refused(&three).contains("modalities: expected two for heads by cca, got 3"));
    assert!(refused(&data.with_classes(vec![0; ROWS]).unwrap()).contains("classes: expected none"));
}

/// The cache is read as its formula says, with an independent loop.
#[test]
fn a_cache_recalls_what_is_near() {
    use crossmodal::align::{ClosedForm, Scaling, closed_form};
    let data = data([12, 9]);
    let fit = closed_form(&data, ClosedForm::Cache, Scaling::Modality, 6).unwrap();
    assert_eq!((fit.tried.len(), fit.tried.iter().filter(|tried| tried.cache.is_some()).count()), (41, 30));
    let mut head = fit.heads.of("left").unwrap().clone();
    let cache = head.cache.clone().unwrap();
    let dim = head.dim;
    assert_eq!((cache.keys.len(), cache.values.len()), (64 * dim, 64 * dim));
    let features = data.of("left").unwrap();
    let got = head.project(&Device::Cpu, features).unwrap();
    head.cache = None;
    let plain = head.project(&Device::Cpu, features).unwrap();
    for (got, z) in got.values.chunks(dim).zip(plain.values.chunks(dim)) {
        let mut sum: Vec<f64> = z.iter().map(|&v| f64::from(v)).collect();
        for (key, value) in cache.keys.chunks(dim).zip(cache.values.chunks(dim)) {
            let near: f64 = z.iter().zip(key).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let weight = cache.alpha * (cache.beta * (near - 1.)).exp();
            sum.iter_mut().zip(value).for_each(|(sum, v)| *sum += weight * f64::from(*v));
        }
        let length = sum.iter().map(|v| v * v).sum::<f64>().sqrt();
        assert!(got.iter().zip(&sum).all(|(got, sum)| (f64::from(*got) - sum / length).abs() < 1e-5));
    }
}

/// Of three modalities the loss is the sum over the three pairs, each as if it stood alone.
#[test]
fn the_losses_of_all_pairs_are_summed() {
    let two = data([6, 6]);
    let third = changed(two.of("left").unwrap());
    let [left, right] = &two.modalities[..] else { panic!("two modalities") };
    let all = [left.clone(), right.clone(), Modality::new("third", third)];
    let of = |sides: &[usize]| {
        let own = sides.iter().map(|&side| all[side].clone()).collect();
        let data = Data::of_modalities(own, two.split.clone()).unwrap();
        // Features as they are: the same embeddings in every pair.
        let head = HeadKind::Residual { hidden: 2, ratio: 0. };
        let recipe = Recipe { head, dropout: 0., ..recipe() };
        trained(&Device::Cpu, &data, &recipe, 1).0[0]
    };
    let sum = of(&[0, 1]) + of(&[0, 2]) + of(&[1, 2]);
    assert!((of(&[0, 1, 2]) - sum).abs() < 1e-5 * sum, "{} and {sum}", of(&[0, 1, 2]));
}

/// Every view of one side with every view of the other: two views of both are the mean over four pairs.
#[test]
fn views_of_both_sides_meet_each_other() {
    let plain = data([6, 6]);
    let (x, y) = (plain.of("left").unwrap().clone(), plain.of("right").unwrap().clone());
    let (x2, y2) = (changed(&x), changed(&y));
    let recipe = Recipe {
        objective: Objective::Cosine,
        head: HeadKind::Residual { hidden: 2, ratio: 0. },
        dropout: 0.,
        ..recipe()
    };
    let both = plain.with_views("left", vec![x2]).unwrap().with_views("right", vec![y2]).unwrap();
    let rows = both.split.train[..16].to_vec();
    let got = trained(&Device::Cpu, &both, &recipe, 1).0[0];
    // The mean cosine of standardised features, by a loop of its own.
    let fit = |modality: &Modality| {
        let stacked = [&modality.features, &modality.views[0]];
        let all = Features { rows: 2 * ROWS, cols: 6, values: stacked.map(|f| f.values.clone()).concat() };
        let train: Vec<u32> = both.split.train.iter().flat_map(|&row| [row, row + ROWS as u32]).collect();
        let scale = crossmodal::align::Standardisation::fit_modality(&all, &train);
        stacked.map(|view| scale.apply(&view.values))
    };
    let (xs, ys) = (fit(&both.modalities[0]), fit(&both.modalities[1]));
    let mut sum = 0.;
    for &row in &rows {
        for (x, y) in xs.iter().flat_map(|x| ys.iter().map(move |y| (x, y))) {
            let own = |side: &[f32]| {
                side[row as usize * 6..][..6].iter().map(|&v| f64::from(v)).collect::<Vec<_>>()
            };
            let (x, y) = (own(x), own(y));
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            sum += 1. - dot(&x, &y) / (dot(&x, &x) * dot(&y, &y)).sqrt();
        }
    }
    assert!((got - sum / 64.).abs() < 1e-5, "{got} and {}", sum / 64.);
}

/// The loss with a queue, by loops: earlier keys of a row's class, or of the row itself, are its positives.
#[test]
fn a_queue_has_the_loss_of_its_formula() {
    use crossmodal::align::Standardisation;
    let classes: Vec<i64> = (0..ROWS as i64).map(|row| if row % 5 == 0 { -1 } else { row % 7 }).collect();
    for (enqueue_first, labelled) in [(false, false), (false, true), (true, false), (true, true)] {
        let plain = data([6, 6]);
        let data = if labelled { plain.with_classes(classes.clone()).unwrap() } else { plain };
        let objective = Objective::InfoNce {
            smoothing: 0.,
            decoupled: false,
            hard_negatives: 0.,
            queue: 40,
            enqueue_first,
        };
        // Features as they are, and a rate that moves nothing.
        let head = HeadKind::Residual { hidden: 2, ratio: 0. };
        let recipe = Recipe { objective, head, dropout: 0., learning_rate: 1e-12, ..recipe() };
        let mut trainer = Trainer::new(&Device::Cpu, &data, &recipe).unwrap();
        let train = &data.split.train;
        // The third batch shares rows with the first, and the ring has come round by then.
        let batches = [&train[..16], &train[16..32], &train[8..24]];
        let losses: Vec<f64> =
            batches.iter().map(|batch| trainer.step(batch).unwrap().item().unwrap()).collect();
        let unit = |modality: &Modality, row: u32| -> Vec<f64> {
            let scale = Standardisation::fit_modality(&modality.features, train);
            let z = scale.apply(&modality.features.select(&[row]).unwrap().values);
            let length = z.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            z.iter().map(|v| f64::from(*v) / length).collect()
        };
        let class = |row: u32| match classes[row as usize] {
            of_row if labelled && of_row >= 0 => of_row,
            _ => 1000 + i64::from(row),
        };
        let one_way = |step: usize, of: &Modality, among: &Modality| -> f64 {
            let before: Vec<u32> = batches[..step].concat();
            let earlier = &before[before.len().saturating_sub(40)..];
            let columns: Vec<u32> = if enqueue_first {
                let all = [&before[..], batches[step]].concat();
                all[all.len().saturating_sub(40)..].to_vec()
            } else {
                [batches[step], earlier].concat()
            };
            let of_row = |&row: &u32| {
                let x = unit(of, row);
                let logit = |&other: &u32| {
                    x.iter().zip(unit(among, other)).map(|(a, b)| a * b).sum::<f64>() / recipe.temperature
                };
                let logits: Vec<f64> = columns.iter().map(logit).collect();
                let lse = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
                let positive = |at: &usize| class(columns[*at]) == class(row);
                let positives: Vec<f64> = (0..columns.len()).filter(positive).map(|at| logits[at]).collect();
                lse - positives.iter().sum::<f64>() / positives.len() as f64
            };
            batches[step].iter().map(of_row).sum::<f64>() / 16.
        };
        let [left, right] = &data.modalities[..] else { panic!("two modalities") };
        for (step, got) in losses.iter().enumerate() {
            let want = 0.5 * (one_way(step, left, right) + one_way(step, right, left));
            assert!((got - want).abs() < 1e-4, "{enqueue_first} {labelled}, step {step}: {got} for {want}");
        }
    }
}
