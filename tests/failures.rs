//! A device that fails: without memory, and where a submit is refused.
#![cfg(feature = "gpu")]

mod common;
#[path = "common/limited.rs"]
mod limited;

use crossmodal::ops::{add, scale};
use crossmodal::{DType, Device, Error, Tensor};

/// A device that allows two workgroups in a dimension takes four of 256 elements, and refuses five when they are submitted.
#[test]
fn a_submit_that_is_refused_fails_every_later_call() {
    let (device, other) =
        (limited::limited(|limits| limits.max_compute_workgroups_per_dimension = 2), common::gpu());
    let ones = |device: &Device, count| Tensor::from_vec(device, &[count], vec![1f32; count]).unwrap();
    let (small, large) = (ones(&device, 1024), ones(&device, 1025));
    assert_eq!(scale(&small, 2.).unwrap().to_vec::<f32>().unwrap(), [2.; 1024]);
    // One that could be done is recorded before it: the whole submit is lost.
    let before = scale(&small, 3.).unwrap();
    let refused = scale(&large, 2.).unwrap();
    let error = refused.to_vec::<f32>().unwrap_err();
    assert!(matches!(&error, Error::Driver { what, .. } if what == "submitting commands"), "{error}");
    for result in [
        before.to_vec::<f32>().map(drop),
        refused.to_vec::<f32>().map(drop),
        scale(&small, 2.).and_then(|y| y.to_vec::<f32>()).map(drop),
        Tensor::from_vec(&device, &[1], vec![1f32]).map(drop),
        device.wait(),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::Driver { .. }), "{error}");
        assert!(error.to_string().contains("an earlier submit failed"), "{error}");
    }
    assert_eq!(scale(&ones(&other, 1025), 2.).unwrap().to_vec::<f32>().unwrap(), [2.; 1025], "others go on");
}

/// In a process of its own, with a limit on its addresses: only a software driver takes its memory from them.
#[cfg(target_os = "linux")]
mod no_memory {
    use super::*;

    const CHILD: &str = "CROSSMODAL_TEST_WITHOUT_MEMORY";
    /// What the child says where it came to its end.
    const FILLED: &str = "the memory was filled";
    const SIZE: usize = 64 << 20;

    #[test]
    fn out_of_memory_is_an_error_and_what_is_given_back_is_used_again() {
        let Device::Gpu(gpu) = common::gpu() else { unreachable!("it is a GPU") };
        if !gpu.report().software {
            return;
        }
        if std::env::var_os(CHILD).is_some() {
            return fill();
        }
        let own = std::env::current_exe().unwrap();
        let name = "no_memory::out_of_memory_is_an_error_and_what_is_given_back_is_used_again";
        let out = std::process::Command::new("sh")
            .args(["-c", "ulimit -v 1600000 && exec \"$0\" --exact \"$1\" --nocapture"])
            .arg(own)
            .arg(name)
            .env(CHILD, "1")
            // Threads of the driver take addresses too, more the more cores there are.
            .envs([("LP_NUM_THREADS", "1"), ("MALLOC_ARENA_MAX", "2")])
            .output()
            .unwrap();
        let said =
            [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(out.status.success() && said.contains(FILLED), "{said}");
    }

    fn fill() {
        let device = common::gpu();
        let Device::Gpu(gpu) = &device else { unreachable!("it is a GPU") };
        let zeros = |bytes: usize| Tensor::zeros(&device, &[bytes / 4], DType::F32);
        let small = Tensor::from_vec(&device, &[2], vec![1f32, 2.]).unwrap();
        let doubles = || assert_eq!(add(&small, &small).unwrap().to_vec::<f32>().unwrap(), [2., 4.]);
        doubles();
        let mut held = vec![];
        let error = loop {
            match zeros(SIZE) {
                Ok(tensor) => held.push(tensor),
                Err(error) => break error,
            }
            assert!(held.len() < 1000, "the limit holds less");
        };
        let Error::OutOfMemory { asked, live, .. } = error else { panic!("{error}") };
        assert_eq!(asked, SIZE as u64);
        assert!(live >= (held.len() * SIZE) as u64, "{} tensors, {live} bytes", held.len());
        doubles();
        // Two idle buffers are in the way of a larger one, for which there is no room besides.
        held.truncate(held.len() - 2);
        assert!(gpu.memory().idle >= 2 * SIZE as u64);
        let larger = zeros(SIZE / 2 * 3).unwrap();
        assert!(gpu.memory().idle < SIZE as u64);
        doubles();
        assert!(matches!(add(&larger, &larger), Err(Error::OutOfMemory { .. })));
        doubles();
        eprintln!("{FILLED}");
    }
}
