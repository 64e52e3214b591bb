//! Which of several kernels a device was found to run best, by the class of problem: kept for the life of a `Gpu`, and in the
//! cache folder for the next.

use super::{AdapterReport, Gpu, cache};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

/// The choices by class; none are read before the first is asked for.
#[derive(Default)]
pub(super) struct Choices {
    known: Option<BTreeMap<String, String>>,
}

/// The name of the file: choices are those of an adapter and its driver.
fn file_name(report: &AdapterReport) -> String {
    let text = format!("{} {} {}", report.name, report.backend, report.driver);
    format!("choices-{:016x}", cache::checksum(text.as_bytes()))
}

/// A line is a class, a tab, a choice. Lines that are not are left out.
fn parse(bytes: &[u8]) -> BTreeMap<String, String> {
    let lines = String::from_utf8_lossy(bytes);
    let pairs = lines.lines().filter_map(|line| line.split_once('\t'));
    pairs.map(|(class, choice)| (class.to_string(), choice.to_string())).collect()
}

/// What the cache folder has.
fn kept(name: &str) -> BTreeMap<String, String> {
    cache::read(name).map(|bytes| parse(&bytes)).unwrap_or_default()
}

fn print(known: &BTreeMap<String, String>) -> String {
    known.iter().map(|(class, choice)| format!("{class}\t{choice}\n")).collect()
}

impl Gpu {
    /// Whether kernels may be timed to choose among them: not on a driver that runs on a CPU, where it takes seconds and
    /// rules tell as much, not in a browser, which does not wait, and not under verification.
    pub(crate) fn may_time(&self) -> bool {
        cfg!(not(target_arch = "wasm32")) && !self.0.report.software && !self.0.poison.load(Relaxed)
    }

    /// What was chosen for a class of problems.
    pub(crate) fn choice(&self, class: &str) -> Option<String> {
        let mut choices = self.0.choices.lock().expect("choices lock");
        let read = || kept(&file_name(&self.0.report));
        choices.known.get_or_insert_with(read).get(class).cloned()
    }

    /// Keeps a choice; in the cache folder too, where what another process kept meanwhile stays, but not one among kernels that a
    /// test has changed.
    pub(crate) fn choose(&self, class: &str, choice: &str) {
        let name = file_name(&self.0.report);
        let mut choices = self.0.choices.lock().expect("choices lock");
        let known = choices.known.get_or_insert_with(|| kept(&name));
        known.insert(class.to_string(), choice.to_string());
        if self.0.pipelines.lock().expect("pipeline lock").is_hooked() {
            return;
        }
        let mut all = kept(&name);
        all.extend(known.clone());
        cache::write(&name, print(&all).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_lines_and_what_is_none_is_left_out() {
        let known = parse(b"matmul a\ttiled 64\nbroken\nmatmul b\tplain\n\xff\n");
        assert_eq!(print(&known), "matmul a\ttiled 64\nmatmul b\tplain\n");
        assert_eq!(parse(print(&known).as_bytes()), known);
        assert!(parse(b"").is_empty());
    }
}
