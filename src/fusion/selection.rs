//! An ensemble chosen greedily.

use super::{Ballots, Presence};
use crate::error::{Error, Result};

/// Greedy ensemble selection (Caruana et al., 2004): from nothing, `rounds` times the expert is added, with replacement, with which the
/// soft vote of all so far classifies most of the validation rows right; of equals the one with the smaller loss, then the first.
/// Gives how often each was added: weights for any late fusion. The first is the best by itself: the ensemble is seeded with it.
///
/// `experts` are class probabilities `[rows, classes]` of the validation rows, `labels` their class numbers, `presence` says which experts
/// have something to say of which row.
///
/// Errors: no experts, no rows, no rounds; slices of other sizes; a label that is no class.
///
/// ```
/// use crossmodal::fusion::{Presence, greedy_selection};
/// let (right, wrong) = ([0.9f32, 0.1, 0.2, 0.8], [0.1f32, 0.9, 0.8, 0.2]);
/// assert_eq!(greedy_selection(&[&wrong, &right], 2, &[0, 1], 3, &Presence::all(2, 2))?, [0., 3.]);
/// # Ok::<(), crossmodal::Error>(())
/// ```
pub fn greedy_selection(
    experts: &[&[f32]],
    classes: usize,
    labels: &[u32],
    rounds: usize,
    presence: &Presence,
) -> Result<Vec<f64>> {
    for (argument, count) in [("experts", experts.len()), ("labels", labels.len()), ("rounds", rounds)] {
        if count == 0 {
            return Err(Error::argument("greedy_selection", argument, "at least one", 0));
        }
    }
    if let Some(label) = labels.iter().find(|&&label| label as usize >= classes) {
        return Err(Error::argument("greedy_selection", "labels", format!("classes below {classes}"), label));
    }
    let ballots = Ballots { experts, classes, presence };
    let mut counts = vec![0.; experts.len()];
    for _ in 0..rounds {
        let mut best: Option<(usize, f64, usize)> = None;
        for expert in 0..experts.len() {
            let mut tried = counts.clone();
            tried[expert] += 1.;
            let votes = ballots.soft(&tried)?;
            let right = votes.iter().zip(labels).filter(|(vote, label)| vote == label).count();
            let loss = loss(&ballots, labels, &tried);
            let better =
                |&(most, least, _): &(usize, f64, usize)| right > most || (right == most && loss < least);
            if best.as_ref().is_none_or(better) {
                best = Some((right, loss, expert));
            }
        }
        let (.., expert) = best.expect("there is an expert");
        counts[expert] += 1.;
    }
    Ok(counts)
}

/// `−Σ log p(label)` of the mean with some weights.
fn loss(ballots: &Ballots<'_>, labels: &[u32], weights: &[f64]) -> f64 {
    let shares = ballots.presence.normalised(weights);
    let of_row = |((row, &label), shares): ((usize, &u32), &Vec<f64>)| {
        let at = row * ballots.classes + label as usize;
        let p: f64 = ballots.experts.iter().zip(shares).map(|(p, share)| share * f64::from(p[at])).sum();
        -p.max(1e-30).ln()
    };
    labels.iter().enumerate().zip(&shares).map(of_row).sum()
}
