//! `crossmodal eval`: what embeddings made elsewhere are good for.

use std::path::PathBuf;
use std::process::ExitCode;

use crossmodal::Device;
use crossmodal::evaluate::Knn;
use crossmodal::io::Source;
use serde_json::Value;

use crate::device::DeviceArgs;
use crate::eval_inputs::Inputs;
use crate::eval_report::Report;
use crate::failure::{Failure, Outcome};
use crate::{inputs, output, plots};

/// What stands below the flags in the help.
const MORE: &str = "\
FILE is .npy, or .safetensors with #TENSOR. The tasks are retrieval, zeroshot,
cache, knn, probe and geometry [default: all that the flags have data for].
Retrieval and geometry compare left and right; zeroshot takes the left rows as
images and needs --labels and --prompts; knn and probe read the classes off each
side and need --labels and --split; cache adds the training rows to the prompts
as zeroshot uses them (Tip-Adapter), its alpha and beta chosen on the validation
rows, and needs all three. With --split, knn, probe and cache learn from its
training rows, and every task scores the test rows. The probe is trained on the
device.

--json has one record for each task under \"results\", in the shape of
CLIP_benchmark (left as images, right as texts, fractions of 1); --out writes
each to a file of its own, for `clip_benchmark build DIR/*.json`. Above them
stand the scores in percent.";

/// Scores embeddings: retrieval, classification, geometry; draws plots
#[derive(clap::Args)]
#[command(after_help = MORE)]
pub(crate) struct Args {
    /// Embeddings of one modality (images)
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    pub(crate) left: Source,
    /// Those of the other (texts), by row or by ids
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    pub(crate) right: Option<Source>,
    /// Integers, one a left row: same id, correct item
    #[arg(long, value_name = "FILE", value_parser = inputs::source(), requires = "right_ids")]
    pub(crate) left_ids: Option<Source>,
    /// Integers, one a right row
    #[arg(long, value_name = "FILE", value_parser = inputs::source(), requires = "left_ids")]
    pub(crate) right_ids: Option<Source>,
    /// One class a left row; the right's too without ids
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    pub(crate) labels: Option<Source>,
    /// 0 train, 1 validation, 2 test, one a left row
    #[arg(long, value_name = "FILE", value_parser = inputs::source())]
    pub(crate) split: Option<Source>,
    /// Embedded prompts, several for each class
    #[arg(long, value_name = "FILE", value_parser = inputs::source(), requires = "prompt_labels")]
    pub(crate) prompts: Option<Source>,
    /// The class of each prompt
    #[arg(long, value_name = "FILE", value_parser = inputs::source(), requires = "prompts")]
    pub(crate) prompt_labels: Option<Source>,
    /// Which of these, with commas: see below
    #[arg(long, value_name = "LIST", value_delimiter = ',', hide_possible_values = true)]
    tasks: Vec<Task>,
    /// Neighbours that vote in knn
    #[arg(long, value_name = "N", default_value_t = Knn::default().neighbours)]
    neighbours: usize,
    /// The data's name in JSON [default: as --left]
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// The model's name in JSON
    #[arg(long, value_name = "NAME", default_value = "crossmodal")]
    model: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write a JSON file for each task to this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Draw heat map, histogram and ranks here (.svg)
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Draw also the training curves of this run of align
    #[arg(long, value_name = "DIR", requires = "plot")]
    run: Option<PathBuf>,
    /// Replace the files that are there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArgs, // for the probe
}

/// What can be scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Task {
    Retrieval,
    Zeroshot,
    Cache,
    Knn,
    Probe,
    Geometry,
}

impl Task {
    /// Whether it takes training rows with classes.
    pub(crate) fn learns(self) -> bool {
        matches!(self, Task::Cache | Task::Knn | Task::Probe)
    }
}

impl Args {
    /// What is asked for, or what there is data for. What lacks data is refused.
    fn tasks(&self) -> Result<Vec<Task>, Failure> {
        let missing = |task: &Task| match task {
            Task::Retrieval | Task::Geometry if self.right.is_none() => Some("--right FILE"),
            Task::Zeroshot | Task::Cache if self.prompts.is_none() => Some("--prompts FILE"),
            Task::Zeroshot if self.labels.is_none() => Some("--labels FILE"),
            task if task.learns() && self.labels.is_none() => Some("--labels FILE"),
            task if task.learns() && self.split.is_none() => Some("--split FILE"),
            _ => None,
        };
        let all = <Task as clap::ValueEnum>::value_variants();
        if self.tasks.is_empty() {
            let mut tasks = all.to_vec();
            tasks.retain(|task| missing(task).is_none());
            // Prompts that are given are meant to be used.
            let asked = if self.prompts.is_some() { &[Task::Zeroshot][..] } else { &[] };
            if let Some(flag) = asked.iter().find_map(missing) {
                return Err(Failure::new(format!("--prompts needs {flag}: which class is right?")));
            }
            if tasks.is_empty() {
                return Err(Failure::new(if self.labels.is_some() {
                    "--labels needs --split FILE, for knn and probe, or --prompts FILE, for zeroshot"
                } else {
                    "there is nothing to score: name --right FILE, or --labels FILE with --split FILE"
                }));
            }
            return Ok(tasks);
        }
        if let Some((task, flag)) = self.tasks.iter().find_map(|task| Some((task, missing(task)?))) {
            let task = format!("{task:?}").to_lowercase();
            return Err(Failure::new(format!("--tasks {task} needs {flag}")));
        }
        // In the order of the list, each once.
        Ok(all.iter().copied().filter(|task| self.tasks.contains(task)).collect())
    }
}

/// Runs the verb. Everything is read, checked, scored and drawn before anything is written.
pub(crate) fn run(args: &Args) -> Outcome {
    let tasks = args.tasks()?;
    if args.neighbours == 0 {
        return Err(Failure::new("--neighbours: expected at least 1, got 0"));
    }
    if args.plot.is_some() && !tasks.contains(&Task::Retrieval) {
        return Err(Failure::new("--plot draws what retrieval finds: it needs --right FILE and that task"));
    }
    let curves = args.run.as_deref().map(plots::training).transpose()?;
    let inputs = Inputs::read(args, &tasks)?;
    // Nothing else needs one, and opening it takes time.
    let device = if tasks.contains(&Task::Probe) { args.device.open()? } else { Device::Cpu };
    let names = [args.dataset.clone().unwrap_or_else(|| args.left.to_string()), args.model.clone()];
    let knn = Knn { neighbours: args.neighbours, ..Knn::default() };
    let report = Report::new(&inputs, &tasks, &knn, &device, names)?;

    let mut files = vec![];
    if let Some(folder) = &args.out {
        files.extend(report.files(folder));
    }
    if let (Some(folder), Some(matching)) = (&args.plot, &report.matching) {
        let drawn = plots::draw(&inputs, matching)?.into_iter().chain(curves.into_iter().flatten());
        files.extend(drawn.map(|(name, svg)| (folder.join(name), svg.into_bytes())));
    }
    output::write_all(&files, args.force)?;
    if args.json {
        output::print_json(&Value::Object(report.json()))?;
    } else {
        let written: Vec<_> =
            files.iter().map(|(path, _)| format!("\nwritten  {}", path.display())).collect();
        output::print(&(report.table() + &written.concat()))?;
    }
    Ok(ExitCode::SUCCESS)
}
