//! The command line, run as a process on small made-up data.

mod align;
mod attend;
mod attend_refused;
mod bad_input;
mod bench;
mod eval;
mod folders;
mod formulas;
mod fuse;
mod fuse_folders;
mod fuse_late;
mod fuse_names;
mod fuse_present;
mod fuse_tokens;
mod fuse_values;
mod modalities;
mod other_verbs;
mod search;
mod xml;

use std::collections::BTreeMap;
use std::path::{MAIN_SEPARATOR, Path, PathBuf};
use std::process::{Command, Output};

use crossmodal::dtype::HostData;
use crossmodal::io::{Array, write_npy, write_safetensors};

/// Rows of the made-up data; the split has 40 to train, 10 to validate, 10 to test.
const ROWS: usize = 60;

/// A folder with `left.npy` and `pair.safetensors` (`right` and `split`), in which the program runs.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        let hidden = |row: usize, column: usize| ((row * 7 + column * 3) as f32 * 0.37).sin();
        let view = |columns: usize, scale: f32| -> Vec<f32> {
            let value =
                |i: usize| scale * hidden(i / columns, i % columns) + 0.1 * hidden(i % columns, i / columns);
            (0..ROWS * columns).map(value).collect()
        };
        write_npy(&place.path("left.npy"), ROWS, 6, &view(6, 1.)).unwrap();
        let split = (0..ROWS as u32).map(|row| (row % 6).saturating_sub(3)).collect();
        let arrays = [
            ("right", Array { shape: vec![ROWS, 5], data: HostData::F32(view(5, -2.)) }),
            ("split", Array { shape: vec![ROWS], data: HostData::U32(split) }),
        ];
        let arrays = arrays.map(|(name, array)| (name.to_string(), array)).into();
        write_safetensors(&place.path("pair.safetensors"), &arrays, &BTreeMap::new()).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the program with words split at spaces.
    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crossmodal"));
        command.args(line.split_whitespace()).current_dir(self.folder.path());
        command.env_remove("CROSSMODAL_DEVICE").env_remove("RUST_LOG");
        // A layer of Mesa writes "error: XDG_RUNTIME_DIR is invalid" to standard error where there is no desktop.
        command.env("NODEVICE_SELECT", "1");
        command
    }

    /// Runs the program, which must end well; its standard output.
    fn succeed(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the program, which must say one line that holds all `words`, and end with status 2 and no output.
    fn refuse(&self, line: &str, words: &[&str]) {
        let output = self.run(line);
        // Paths are written with `/` in `words`, whatever the system shows.
        let text = String::from_utf8(output.stderr).unwrap().replace(MAIN_SEPARATOR, "/");
        assert_eq!(output.status.code(), Some(2), "{line}: {text}");
        assert!(output.stdout.is_empty(), "{line}");
        assert!(text.starts_with("error: ") && text.lines().count() == 1, "{line}: {text}");
        for word in words {
            assert!(text.contains(word), "{line}: no {word:?} in {text}");
        }
    }

    /// A few epochs on the made-up data, with `more` flags.
    fn align(&self, more: &str) -> String {
        format!("align {INPUTS} --dim 4 --epochs 4 --batch-size 8 --device cpu {more}")
    }

    fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_slice(&self.bytes(name)).unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The epochs of a run's journal.
    fn epochs(&self, run: &str) -> Vec<u64> {
        let text = String::from_utf8(self.bytes(&format!("{run}/log.jsonl"))).unwrap();
        let epoch =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["epoch"].as_u64().unwrap();
        text.lines().map(epoch).collect()
    }
}

/// What a run that was trained leaves.
const FILES: [&str; 6] =
    ["checkpoint.safetensors", "heads.safetensors", "left.npy", "log.jsonl", "metrics.json", "right.npy"];

const INPUTS: &str = "--left left.npy --right pair.safetensors#right --split pair.safetensors#split";

/// The names in a folder, sorted, but for the lock of a run.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != ".lock");
    names.sort();
    names
}

/// The files of a folder that has no others, with what is in them.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    names(folder).into_iter().map(|name| (name.clone(), std::fs::read(folder.join(name)).unwrap())).collect()
}
