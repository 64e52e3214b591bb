//! The table of ratios, as Markdown and as JSON.

use crate::machine::About;
use crate::shapes::Shape;
use crate::side::Outcome;
use crate::timing::Times;
use serde_json::{Value, json};

/// A shape with what was measured of it.
pub(crate) struct Entry {
    pub shape: Shape,
    pub ours: Outcome<Times>,
    /// Bytes on the device at the most, inputs included.
    pub peak: Option<u64>,
    pub peers: Vec<Peer>,
}

pub(crate) struct Peer {
    pub name: String,
    pub times: Outcome<Times>,
    pub peak: Option<u64>,
    /// How far its results are from ours, where both had the same inputs.
    pub difference: Option<f64>,
}

/// Everything there is to write.
pub(crate) struct Report {
    pub about: About,
    pub entries: Vec<Entry>,
    /// Shapes that were left out, with the reason.
    pub skipped: Vec<(String, String)>,
}

/// A peer over a class of shapes.
struct Mean {
    class: String,
    peer: String,
    shapes: usize,
    geometric: f64,
    least: f64,
    of: String,
}

const HEAD: [&str; 10] = [
    "shape",
    "peer",
    "ours ms",
    "peer ms",
    "peer / ours",
    "ours GFLOP/s",
    "first ms: ours",
    "first ms: peer",
    "memory MiB: ours / peer",
    "difference",
];

impl Report {
    pub(crate) fn markdown(&self) -> String {
        let mut text = self.heading();
        text += &line(&HEAD.map(String::from));
        text += &line(&HEAD.map(|_| "---".to_string()));
        for entry in &self.entries {
            let Ok(ours) = &entry.ours else { continue };
            if !entry.peers.iter().any(|peer| peer.times.is_ok()) {
                text += &line(&cells(entry, ours, None));
            }
            for peer in &entry.peers {
                if let Ok(theirs) = &peer.times {
                    text += &line(&cells(entry, ours, Some((peer, theirs))));
                }
            }
        }
        text + &self.means_table() + &self.absent()
    }

    fn heading(&self) -> String {
        let About { date, machine, cores, adapter, driver, versions, python } = &self.about;
        let versions = versions.iter().map(|(name, version)| format!("{name} {version}"));
        let python = python.iter().map(of_python);
        let versions = versions.chain(python).collect::<Vec<_>>().join("; ");
        format!(
            "# Beside the peers, {date}\n\n{machine}, {cores} cores; adapter {adapter}, driver {driver}; {versions}.\n\n\
             Medians of calls in turn, each until a value of every result is on the host. A ratio over 1: crossmodal, in \
             strict f32 unless the shape's name says f16 or fast, is faster.\n\n"
        )
    }

    fn means_table(&self) -> String {
        let mut text = "\n".to_string();
        text += &line(&["class", "peer", "shapes", "geometric mean", "least", "of"].map(String::from));
        text += &line(&["---"; 6].map(String::from));
        for mean in self.means() {
            let Mean { class, peer, shapes, geometric, least, of } = mean;
            text += &line(&[class, peer, shapes.to_string(), digits(geometric), digits(least), of]);
        }
        text
    }

    fn means(&self) -> Vec<Mean> {
        let mut means: Vec<Mean> = vec![];
        for entry in &self.entries {
            let Ok(ours) = &entry.ours else { continue };
            for peer in &entry.peers {
                let Ok(theirs) = &peer.times else { continue };
                let (ratio, class) = (theirs.median / ours.median, &entry.shape.class);
                let known = means.iter().position(|mean| mean.class == *class && mean.peer == peer.name);
                let at = known.unwrap_or_else(|| {
                    let (class, peer, of) = (class.clone(), peer.name.clone(), String::new());
                    means.push(Mean { class, peer, shapes: 0, geometric: 0., least: f64::INFINITY, of });
                    means.len() - 1
                });
                let mean = &mut means[at];
                // The sum of logarithms, until all are there.
                mean.geometric += ratio.ln();
                mean.shapes += 1;
                if ratio < mean.least {
                    (mean.least, mean.of) = (ratio, entry.shape.name.clone());
                }
            }
        }
        means.iter_mut().for_each(|mean| mean.geometric = (mean.geometric / mean.shapes as f64).exp());
        means
    }

    /// What there is no ratio of, and why.
    fn absent(&self) -> String {
        let mut reasons = vec![];
        for entry in &self.entries {
            let own = entry.ours.as_ref().err().map(|reason| ("crossmodal", reason));
            let of_peers =
                entry.peers.iter().filter_map(|peer| Some((peer.name.as_str(), peer.times.as_ref().err()?)));
            for (name, reason) in own.into_iter().chain(of_peers) {
                reasons.push(format!("- {}, {name}: {reason}\n", entry.shape.name));
            }
        }
        reasons.extend(self.skipped.iter().map(|(shape, reason)| format!("- {shape}: {reason}\n")));
        if reasons.is_empty() { String::new() } else { format!("\nNot compared:\n\n{}", reasons.concat()) }
    }

    pub(crate) fn json(&self) -> Value {
        let times = |times: &Outcome<Times>| match times {
            Err(reason) => json!({ "error": reason }),
            Ok(t) => json!({ "first_s": t.first, "median_s": t.median, "least_s": t.least, "runs": t.runs }),
        };
        let peer = |peer: &Peer, ours: &Outcome<Times>| {
            let ratio = peer.times.as_ref().ok().zip(ours.as_ref().ok()).map(|(p, o)| p.median / o.median);
            json!({
                "name": peer.name, "times": times(&peer.times), "ratio": ratio, "peak_bytes": peer.peak,
                "difference": peer.difference,
            })
        };
        let entry = |e: &Entry| {
            json!({
                "shape": e.shape.name, "class": e.shape.class, "gflop": e.shape.gflop, "ours": times(&e.ours),
                "peak_bytes": e.peak, "peers": e.peers.iter().map(|p| peer(p, &e.ours)).collect::<Vec<_>>(),
            })
        };
        let means = self.means().into_iter().map(|mean| {
            let Mean { class, peer, shapes, geometric, least, of } = mean;
            json!({ "class": class, "peer": peer, "shapes": shapes, "geometric_mean": geometric, "least": least, "of": of })
        });
        json!({
            "about": self.about, "shapes": self.entries.iter().map(entry).collect::<Vec<_>>(),
            "means": means.collect::<Vec<_>>(), "skipped": self.skipped,
        })
    }
}

fn cells(entry: &Entry, ours: &Times, against: Option<(&Peer, &Times)>) -> [String; 10] {
    let ms = |seconds: f64| digits(1e3 * seconds);
    let of_peer = |text: &dyn Fn(&Peer, &Times) -> String| against.map_or("–".into(), |(p, t)| text(p, t));
    let mib =
        |bytes: Option<u64>| bytes.map_or("–".into(), |bytes| digits(bytes as f64 / (1 << 20) as f64));
    [
        entry.shape.name.clone(),
        of_peer(&|peer, _| peer.name.clone()),
        ms(ours.median),
        of_peer(&|_, t| ms(t.median)),
        of_peer(&|_, t| format!("**{}**", digits(t.median / ours.median))),
        digits(entry.shape.gflop / ours.median),
        ms(ours.first),
        of_peer(&|_, t| ms(t.first)),
        format!("{} / {}", mib(entry.peak), of_peer(&|peer, _| mib(peer.peak))),
        of_peer(&|peer, _| {
            peer.difference.map_or("–".into(), |difference| {
                if difference == 0. { "0".into() } else { format!("{difference:.0e}") }
            })
        }),
    ]
}

/// What a peer of Python's says of itself: its name and version, then the rest.
fn of_python(about: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
    let rest = about.as_object().into_iter().flatten().filter(|(key, _)| *key != "peer" && *key != "version");
    let rest = rest.map(|(key, value)| format!("{key} {}", text(value))).collect::<Vec<_>>().join(", ");
    format!("{} {} ({rest})", text(&about["peer"]), text(&about["version"]))
}

fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// Three digits that count.
fn digits(value: f64) -> String {
    let whole = value.abs().max(1e-3).log10().floor() as i32;
    format!("{value:.*}", (2 - whole).max(0) as usize)
}
