//! Which keys the order, the window and the sequences let each query see: always a run of them, for the fast paths.

use super::Attention;
use super::attention::reach;
use std::ops::Range;

/// The keys of one query. Neither end of them descends from one query to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    pub keys: Range<usize>,
    /// Where the query stands among the keys, for linear biases.
    pub position: i64,
}

/// The span of every query.
pub(crate) fn spans(problem: &Attention) -> Vec<Span> {
    let options = &problem.options;
    let span = |i: usize| {
        let keys = problem.sequence(i).1;
        let (first, last) = (keys.start as i64, keys.end as i64);
        let (mut begin, mut end) = (first, last);
        if let Some(corner) = options.causal {
            end = end.min(problem.position(i, corner) + 1);
        }
        if let Some(window) = options.window {
            let own = problem.position(i, window.corner);
            begin = window.before.map_or(begin, |before| begin.max(own - reach(before)));
            end = window.after.map_or(end, |after| end.min(own + reach(after) + 1));
        }
        let (begin, end) = (begin.clamp(first, last), end.clamp(first, last));
        let position = options.alibi.as_ref().map_or(0, |alibi| problem.position(i, alibi.corner));
        Span { keys: begin as usize..end.max(begin) as usize, position }
    };
    (0..problem.queries).map(span).collect()
}
