//! Sides timed in turn, so that what else the machine does meets both.

use crate::side::{Outcome, Side};
use std::time::Instant;

/// Seconds a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// The first one, with compilation, tuning and fresh memory.
    pub first: f64,
    pub median: f64,
    pub least: f64,
    pub runs: usize,
}

/// Calls before the rounds: at most, and the seconds for them.
const WARM: (usize, f64) = (20, 30.);

/// Calls a round: at least, if they are not too slow, and at most.
const ROUNDS: (usize, usize) = (5, 300);

/// Each side called until its times settle, then all in turn for about `seconds`. A side that fails is out, with the reason.
pub(crate) fn alternate(sides: &mut [Box<dyn Side>], seconds: f64) -> Vec<Outcome<Times>> {
    let mut firsts = vec![];
    let mut times: Vec<Outcome<Vec<f64>>> = vec![];
    for side in sides.iter_mut() {
        let warmed = warm(side.as_mut());
        firsts.push(warmed.as_ref().copied().unwrap_or(0.));
        times.push(warmed.map(|_| vec![]));
    }
    let begin = Instant::now();
    for round in 0..ROUNDS.1 {
        let spent = begin.elapsed().as_secs_f64();
        // Slow calls are few: three take the place of five.
        if (round >= ROUNDS.0 && spent > seconds) || (round >= 3 && spent > 4. * seconds) {
            break;
        }
        for (side, slot) in sides.iter_mut().zip(&mut times) {
            if let Ok(of_side) = slot {
                match timed(side.as_mut()) {
                    Ok(took) => of_side.push(took),
                    Err(reason) => *slot = Err(reason),
                }
            }
        }
    }
    firsts.into_iter().zip(times).map(|(first, times)| times.map(|times| summary(first, times))).collect()
}

/// Calls until two in a row take the same within an eighth. Returns the first one's seconds.
fn warm(side: &mut dyn Side) -> Outcome<f64> {
    let begin = Instant::now();
    let first = timed(side)?;
    let mut last = timed(side)?;
    for _ in 2..WARM.0 {
        let next = timed(side)?;
        let settled = (next - last).abs() < last / 8.;
        last = next;
        if settled || begin.elapsed().as_secs_f64() > WARM.1 {
            break;
        }
    }
    Ok(first)
}

fn timed(side: &mut dyn Side) -> Outcome<f64> {
    let start = Instant::now();
    side.call()?;
    Ok(start.elapsed().as_secs_f64())
}

fn summary(first: f64, mut times: Vec<f64>) -> Times {
    times.sort_by(f64::total_cmp);
    Times { first, median: times[times.len() / 2], least: times[0], runs: times.len() }
}
