//! Losses and heads against loops of their own.

use crossmodal::Device;
use crossmodal::align::{Data, HeadKind, Modality, Objective, Recipe, Trainer};
use crossmodal::io::Features;

use crate::setups::{ROWS, changed, data, recipe, trained};

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
