//! Faults to plant in a kernel: changes of its source's text.

use crossmodal::gpu::{Access, Kernel};
use std::ops::Range;

/// What of a kernel a fault is in.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Store,
    Guard,
    Loop,
}

/// A change of a source's text.
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) what: String,
    pub(crate) at: Range<usize>,
    pub(crate) with: String,
}

/// Every fault of a kernel: in its stores, its guards and its loops.
pub(crate) fn faults(kernel: &Kernel) -> Vec<Fault> {
    let text = without_comments(kernel.source);
    let mut faults = store_faults(kernel, &text);
    for within in reached(kernel, &text) {
        faults.extend(guard_faults(&text, &within));
        faults.extend(loop_faults(&text, &within));
    }
    faults
}

/// The source without its comments, every byte at its place.
fn without_comments(source: &str) -> String {
    let blank = |line: &str| match line.find("//") {
        Some(at) => line[..at].to_string() + &" ".repeat(line.len() - at),
        None => line.to_string(),
    };
    source.split('\n').map(blank).collect::<Vec<_>>().join("\n")
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Where `name` stands as a word of its own with `next` behind it.
fn words<'a>(text: &'a str, name: &'a str, next: &'a str) -> impl Iterator<Item = usize> + 'a {
    let own = move |at: &usize| {
        !text[..*at].ends_with(|c| is_name(c) || c == '.') && text[at + name.len()..].starts_with(next)
    };
    text.match_indices(name).map(|(at, _)| at).filter(own)
}

/// The function of this name: to the first brace that closes at the beginning of a line.
fn function(text: &str, name: &str) -> Option<Range<usize>> {
    let start = words(text, name, "(").find(|at| text[..*at].ends_with("fn "))?;
    Some(start..start + text[start..].find("\n}")?)
}

/// The bodies of a kernel's entry point and of every function that it calls, directly or not.
fn reached(kernel: &Kernel, text: &str) -> Vec<Range<usize>> {
    let entry =
        function(text, kernel.entry).unwrap_or_else(|| panic!("{}: no fn {}", kernel.name, kernel.entry));
    let names = text
        .match_indices("\nfn ")
        .map(|(at, _)| &text[at + 4..])
        .map(|rest| &rest[..rest.find('(').unwrap_or(0)]);
    let names: Vec<_> = names.filter(|&name| name != kernel.entry).collect();
    let mut found = vec![entry];
    let mut next = 0;
    while next < found.len() {
        let body = &text[found[next].clone()];
        for called in names.iter().filter(|name| words(body, name, "(").any(|at| at > 0)) {
            let range = function(text, called).expect("it was found by its head");
            if !found.contains(&range) {
                found.push(range);
            }
        }
        next += 1;
    }
    found
}

/// The bytes from `open` to the bracket that closes it.
fn bracketed(text: &str, open: usize) -> Range<usize> {
    let mut depth = 0;
    for (at, c) in text[open..].char_indices() {
        depth += i32::from(c == '[') - i32::from(c == ']');
        if depth == 0 {
            return open..open + at + 1;
        }
    }
    panic!("an open bracket: {}", &text[open..])
}

/// The right-hand sides of assignments to elements of `name`, and each statement's beginning.
fn stores(text: &str, name: &str, within: &Range<usize>) -> Vec<(usize, Range<usize>)> {
    let body = &text[..within.end];
    let at = words(body, name, "[").filter(|at| *at >= within.start);
    at.filter_map(|start| {
        let behind = bracketed(body, start + name.len()).end;
        let rest = body[behind..].trim_start();
        let value = rest.strip_prefix('=').filter(|rest| !rest.starts_with('='))?;
        let begin = within.end - value.len();
        Some((start, begin..begin + value.find(';').expect("a statement's end")))
    })
    .collect()
}

/// Each store to each written binding: doubled, and left out.
fn store_faults(kernel: &Kernel, text: &str) -> Vec<Fault> {
    let mut faults = vec![];
    for binding in kernel.bindings.iter().filter(|binding| binding.access == Access::Write) {
        let before = faults.len();
        for (start, value) in
            reached(kernel, text).iter().flat_map(|within| stores(text, binding.name, within))
        {
            let (statement, rhs) = (&text[start..value.end], text[value.clone()].trim());
            let with = format!(" ({rhs}) + ({rhs})");
            let what = format!("doubled: {statement}");
            faults.push(Fault { kind: Kind::Store, what, at: value.clone(), with });
            faults.push(Fault {
                kind: Kind::Store,
                what: format!("left out: {statement}"),
                at: start..value.end,
                with: String::new(),
            });
        }
        assert!(
            faults.len() > before,
            "{}/{}: no store to {} found",
            kernel.name,
            kernel.entry,
            binding.name
        );
    }
    faults
}

/// The line around a byte.
fn line(text: &str, at: usize) -> Range<usize> {
    let begin = text[..at].rfind('\n').map_or(0, |end| end + 1);
    begin..at + text[at..].find('\n').unwrap_or(text.len() - at)
}

/// Each `if` that leaves a function or goes on with a loop. Its comparisons with a bound: one too early, one too late. A
/// `continue` besides: never taken, always taken.
fn guard_faults(text: &str, within: &Range<usize>) -> Vec<Fault> {
    let mut faults = vec![];
    for at in words(&text[..within.end], "if", " ").filter(|at| *at >= within.start) {
        let line = line(text, at);
        let (what, end) = (text[line.clone()].trim(), line.end);
        let fault = |how: &str, at: Range<usize>, with: &str| Fault {
            kind: Kind::Guard,
            what: format!("{how}: {what}"),
            at,
            with: with.into(),
        };
        let is_return = what.ends_with("{ return; }");
        if !is_return && !what.ends_with("{ continue; }") {
            continue;
        }
        for (behind, _) in text[at..end].match_indices(">=") {
            let at = at + behind..at + behind + 2;
            faults.extend([fault("too early", at.clone(), "+ 1u >="), fault("too late", at, ">= 1u +")]);
        }
        if !is_return {
            let condition = at + 3..at + text[at..end].find(" {").expect("a body");
            faults.extend([fault("never", condition.clone(), "false"), fault("always", condition, "true")]);
        }
    }
    faults
}

/// Each loop's bound: its last turn left out; one turn too many where the bound is a size. Where it is a constant, or the loop
/// counts down to 0, there is no place for one more.
fn loop_faults(text: &str, within: &Range<usize>) -> Vec<Fault> {
    let mut faults = vec![];
    let body = &text[..within.end];
    let loops = words(body, "for", " (").chain(words(body, "while", " "));
    for at in loops.filter(|at| *at >= within.start) {
        let line = line(text, at);
        let first = text[line.end + 1..].lines().next().unwrap_or("");
        let what = format!("{} {}", text[line.clone()].trim(), first.trim());
        let begin =
            if what.starts_with("for") { at + text[at..].find(';').expect("a condition") } else { at };
        let condition = &text[begin..line.end];
        let fault = |how: &str, at: Range<usize>, with: &str| Fault {
            kind: Kind::Loop,
            what: format!("{how}: {what}"),
            at,
            with: with.into(),
        };
        if let Some(down) = condition.find(" > 0u;") {
            let at = begin + down..begin + down + " > 0u".len();
            faults.push(fault("without its last turn", at, " > 1u"));
            continue;
        }
        let less = condition.find(" < ").unwrap_or_else(|| panic!("a loop with another bound: {what}"));
        let at = begin + less..begin + less + " < ".len();
        faults.push(fault("without its last turn", at.clone(), " + 1u < "));
        if !condition[less + 3..].starts_with(|c: char| c.is_ascii_digit()) {
            faults.push(fault("one turn more", at, " < 1u + "));
        }
    }
    faults
}
