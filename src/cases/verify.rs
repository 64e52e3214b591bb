//! A case on the device under test against the same case on the CPU in f64.

use super::{Case, Input, Outputs, Row, Run, Tolerance};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::ops::ways;

/// What came of one case in one type.
///
/// ```
/// use crossmodal::{DType, cases::Verdict};
/// let (case, detail) = ("rows".to_string(), "out[0]: got 1, want 2".to_string());
/// let verdict = Verdict { op: "softmax", case, dtype: DType::F32, ratio: 3., detail };
/// assert!(!verdict.passed());
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The operation.
    pub op: &'static str,
    /// The case.
    pub case: String,
    /// The type under test.
    pub dtype: DType,
    /// The worst error over what is allowed: at most 1 passes.
    pub ratio: f64,
    /// Where the worst error is, or what went wrong.
    pub detail: String,
}

impl Verdict {
    /// Whether everything was within its tolerance. Example: [`Verdict`].
    pub fn passed(&self) -> bool {
        self.ratio <= 1.
    }
}

/// Runs every case of an operation, in f32 and, where the device and the case have it, in f16; `each` hears
/// of every verdict as it comes.
///
/// An operation without a case gives a failing verdict, and so does a case that ends in an error. Example:
/// [`cases`](crate::cases).
pub fn verify_row(device: &Device, row: &Row, each: &mut dyn FnMut(&Verdict)) -> Vec<Verdict> {
    let mut verdicts = vec![];
    for case in (row.cases)() {
        for dtype in [DType::F32, DType::F16] {
            let Some(verdict) = verify_case(device, row.op, &case, dtype) else { continue };
            each(&verdict);
            verdicts.push(verdict);
        }
    }
    if verdicts.is_empty() {
        let detail = "the operation has no case".to_string();
        verdicts.push(Verdict {
            op: row.op,
            case: String::new(),
            dtype: DType::F32,
            ratio: f64::INFINITY,
            detail,
        });
        verdicts.iter().for_each(each);
    }
    verdicts
}

/// Runs one case of an operation in one type; nothing where the device or the case lacks it. Example:
/// [`Case`].
pub fn verify_case(device: &Device, op: &'static str, case: &Case, dtype: DType) -> Option<Verdict> {
    if !device.supports(dtype) || (dtype == DType::F16 && !case.f16) {
        return None;
    }
    let (ratio, detail) = compare(device, case, dtype).unwrap_or_else(|e| (f64::INFINITY, e.to_string()));
    Some(Verdict { op, case: case.name.clone(), dtype, ratio, detail })
}

/// The worst ratio and where it is, by whichever of the device's ways.
fn compare(device: &Device, case: &Case, dtype: DType) -> Result<(f64, String)> {
    let want = run(&Run::reference(dtype), case)?;
    let mut worst = (0., String::new());
    for way in 0.. {
        let (got, ways) =
            ways::forced(way, || guarded(device, || run(&Run::under_test(device, dtype), case)));
        let (ratio, detail) = compare_one(device, case, &got?, &want)?;
        if worst.1.is_empty() || ratio > worst.0 {
            worst = (ratio, if way == 0 { detail } else { format!("{detail} (way {way})") });
        }
        if way + 1 >= ways {
            break;
        }
    }
    Ok(worst)
}

fn compare_one(device: &Device, case: &Case, got: &Outputs, want: &Outputs) -> Result<(f64, String)> {
    let (mut worst, want_count) = ((0., "every element equal".to_string()), want.len());
    if got.len() != want.len() {
        return Ok((f64::INFINITY, format!("{} results instead of {}", got.len(), want.len())));
    }
    for (i, ((name, got), (_, want))) in (1..).zip(got.iter().zip(want)) {
        let is_last = i == want_count;
        if got.shape() != want.shape() {
            return Ok((
                f64::INFINITY,
                format!("{name}: shape {:?} instead of {:?}", got.shape(), want.shape()),
            ));
        }
        #[cfg(all(feature = "gpu", not(target_arch = "wasm32")))]
        if !got.guard_is_intact()? {
            return Ok((f64::INFINITY, format!("{name}: something was written behind its last element")));
        }
        let tolerance = match (name.starts_with('d'), case.last) {
            (true, Some(last)) if is_last => last,
            (true, _) => case.backward,
            (false, _) => case.forward,
        };
        let tolerance = tolerance.stored_as(got.dtype(), device);
        let found = worst_element(name, &got.to_f64_vec()?, &want.to_f64_vec()?, tolerance);
        if found.0 > worst.0 {
            worst = found;
        }
    }
    Ok(worst)
}

fn worst_element(name: &str, got: &[f64], want: &[f64], tolerance: Tolerance) -> (f64, String) {
    let ratios = got.iter().zip(want).map(|(&got, &want)| tolerance.ratio(got, want)).enumerate();
    let Some((at, ratio)) = ratios.max_by(|a, b| a.1.total_cmp(&b.1)) else { return (0., String::new()) };
    (ratio, format!("{name}[{at}]: got {:e}, want {:e}", got[at], want[at]))
}

/// Runs a case once.
pub(super) fn run(run: &Run, case: &Case) -> Result<Outputs> {
    let inputs = case.inputs.iter().map(|input: &Input| run.tensor(input)).collect::<Result<Vec<_>>>()?;
    (case.run)(run, &inputs)
}

/// Runs `work` with fresh tensors poisoned, where the device can.
fn guarded(device: &Device, work: impl FnOnce() -> Result<Outputs>) -> Result<Outputs> {
    #[cfg(feature = "gpu")]
    if let Device::Gpu(gpu) = device {
        gpu.poison(true);
        let out = work();
        gpu.poison(false);
        return out;
    }
    let _ = device;
    work()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::tensor::Tensor;

    /// The input, off by so much on the device under test: the reference runs in f64.
    fn off_by(error: f64) -> Case {
        let run = move |run: &Run, inputs: &[Tensor]| {
            let own = if run.dtype == DType::F64 { 0. } else { error };
            let out = Tensor::from_f64(&run.device, &[1], run.dtype, vec![inputs[0].item()? + own])?;
            Ok(vec![("out".to_string(), out)])
        };
        Case::of("off", vec![Input::of(&[1], &[1.])], run, Tolerance::exact())
    }

    fn verdicts(cases: fn() -> Vec<Case>) -> Vec<Verdict> {
        let row = Row { op: "copy", kernels: &[], cases, bench: Vec::new };
        let mut heard = vec![];
        let verdicts = verify_row(&Device::Cpu, &row, &mut |verdict| heard.push(verdict.clone()));
        assert_eq!(heard, verdicts, "each is told");
        verdicts
    }

    #[test]
    fn a_case_that_is_off_fails_and_the_others_do_not() {
        let passed = |cases| verdicts(cases).iter().map(Verdict::passed).collect::<Vec<_>>();
        assert_eq!(passed(|| vec![off_by(0.).f32_only(), off_by(0.5).f32_only()]), [true, false]);
        assert_eq!(passed(|| vec![off_by(0.5)]), [false, false], "in f32 and in f16");
        let [wrong] = &verdicts(|| vec![off_by(0.5).f32_only()])[..] else { panic!("one verdict") };
        assert_eq!((wrong.ratio, &wrong.detail[..]), (f64::INFINITY, "out[0]: got 1.5e0, want 1e0"));
    }

    #[test]
    fn an_operation_without_a_case_fails() {
        let [verdict] = &verdicts(Vec::new)[..] else { panic!("one verdict") };
        assert!(!verdict.passed() && verdict.detail == "the operation has no case", "{verdict:?}");
    }

    #[test]
    fn errors_and_results_of_another_shape_or_number_fail() {
        fn zeros(run: &Run, n: usize) -> Result<(String, Tensor)> {
            Ok(("out".to_string(), Tensor::zeros(&Device::Cpu, &[n], run.dtype)?))
        }
        let detail = |on_device: fn(&Run) -> Result<Outputs>| {
            let run = move |run: &Run, _: &[Tensor]| {
                if run.dtype == DType::F64 { Ok(vec![zeros(run, 1)?]) } else { on_device(run) }
            };
            let case = Case::of("wrong", vec![], run, Tolerance::exact());
            let verdict = verify_case(&Device::Cpu, "copy", &case, DType::F32).unwrap();
            assert!(!verdict.passed(), "{verdict:?}");
            verdict.detail
        };
        let refused = |_: &Run| Err(Error::argument("copy", "x", "one", "two"));
        assert_eq!(detail(refused), "copy: x: expected one, got two");
        assert_eq!(detail(|_| Ok(vec![])), "0 results instead of 1");
        assert_eq!(detail(|run| Ok(vec![zeros(run, 2)?])), "out: shape [2] instead of [1]");
    }
}
