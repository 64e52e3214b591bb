//! The shaders against the Rust that drives them, by reflection: no GPU is needed.
#![cfg(feature = "verify")]

#[path = "common/barriers.rs"]
mod barriers;

use crossmodal::DType::{self, F16, F32};
use crossmodal::cases;
use crossmodal::gpu::{Access, Field, Kernel, Variant};
use naga::back::{hlsl, msl};
use naga::valid::{Capabilities, GlobalUse, ModuleInfo, ValidationFlags, Validator};
use naga::{
    AddressSpace, GlobalVariable, Handle, Module, ResourceBinding, ShaderStage, StorageAccess, TypeInner,
};
use std::collections::BTreeMap;

/// What every WebGPU device has: storage bindings a stage, bytes of workgroup memory, invocations a workgroup.
const MAX_STORAGE_BINDINGS: usize = 8;
const MAX_WORKGROUP_BYTES: u32 = 16 << 10;
const MAX_INVOCATIONS: u32 = 256;

fn kernels() -> impl Iterator<Item = &'static Kernel> {
    cases::TABLE.iter().flat_map(|row| row.kernels.iter().copied())
}

/// Cooperative matrices, of f16 alone: Vulkan has them, Metal in blocks of 8 by 8, HLSL has not.
fn uses_matrix_units(kernel: &Kernel) -> bool {
    kernel.source.contains("coop_mat")
}

/// The element types that a kernel is compiled for: `elem` and `elem_out` differ only where the source tells them apart.
fn variants(kernel: &Kernel) -> Vec<Variant> {
    let both = |elem: DType, elem_out: DType| Variant { elem_out, ..Variant::of(elem) };
    if uses_matrix_units(kernel) {
        return vec![both(F16, F16), both(F16, F32)];
    }
    let mut variants = vec![both(F32, F32), both(F16, F16)];
    if kernel.source.contains("elem_out") {
        variants.extend([both(F32, F16), both(F16, F32)]);
    }
    variants
}

fn parse(source: &str) -> Result<(Module, ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    let mut validator = Validator::new(
        ValidationFlags::all(),
        Capabilities::SHADER_FLOAT16
            | Capabilities::SHADER_INT64
            | Capabilities::SUBGROUP
            | Capabilities::COOPERATIVE_MATRIX,
    );
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(source))?;
    Ok((module, info))
}

/// A kernel in one variant: a module of its entry point alone, constants filled in, nothing unused.
struct Shader {
    /// Kernel and types, for messages.
    what: String,
    kernel: &'static Kernel,
    f16: bool,
    subgroups: bool,
    int64: bool,
    module: Module,
    info: ModuleInfo,
}

impl Shader {
    fn new(kernel: &'static Kernel, variant: &Variant) -> Shader {
        let what = format!("{}/{} in {} to {}", kernel.name, kernel.entry, variant.elem, variant.elem_out);
        let source = kernel.code(variant);
        let (module, info) = parse(&source).unwrap_or_else(|e| panic!("{what}: {e}"));
        let entry = Some((ShaderStage::Compute, kernel.entry));
        let alone =
            naga::back::pipeline_constants::process_overrides(&module, &info, entry, &Default::default());
        let (module, info) = alone.unwrap_or_else(|e| panic!("{what}: {e}"));
        let (module, info) = (module.into_owned(), info.into_owned());
        assert_eq!(module.entry_points.len(), 1, "{what}: the file has no such entry point");
        let f16 = variant.elem == F16 || variant.elem_out == F16;
        let subgroups = kernel.source.contains("subgroup");
        let int64 = kernel.source.contains("u64");
        Shader { what, kernel, f16, subgroups, int64, module, info }
    }

    /// The global variables that the entry point uses, and how.
    fn used(&self) -> impl Iterator<Item = (Handle<GlobalVariable>, &GlobalVariable, GlobalUse)> {
        let uses = self.info.get_entry_point(0);
        let all = self
            .module
            .global_variables
            .iter()
            .map(move |(handle, variable)| (handle, variable, uses[handle]));
        all.filter(|(_, _, used)| !used.is_empty())
    }

    fn inner(&self, ty: Handle<naga::Type>) -> &TypeInner {
        &self.module.types[ty].inner
    }
}

/// Every kernel in every variant.
fn each_shader(check: impl Fn(&Shader)) {
    for kernel in kernels() {
        for variant in variants(kernel) {
            check(&Shader::new(kernel, &variant));
        }
    }
}

/// A field's type as the Rust side writes it.
fn rust_type(shader: &Shader, ty: Handle<naga::Type>) -> String {
    match shader.inner(ty) {
        TypeInner::Scalar(scalar) if *scalar == naga::Scalar::U32 => "u32".into(),
        TypeInner::Scalar(scalar) if *scalar == naga::Scalar::F32 => "f32".into(),
        TypeInner::Array { base, size: naga::ArraySize::Constant(size), stride: 16 } => match shader
            .inner(*base)
        {
            TypeInner::Vector { size: naga::VectorSize::Quad, scalar } if *scalar == naga::Scalar::U32 => {
                format!("[u32; {}]", 4 * size.get())
            }
            other => format!("an array of {other:?}"),
        },
        other => format!("{other:?}"),
    }
}

#[test]
fn parameter_blocks_are_the_same_in_rust_and_in_wgsl() {
    each_shader(|shader| {
        let what = &shader.what;
        let uniforms: Vec<_> = shader.used().filter(|(_, v, _)| v.space == AddressSpace::Uniform).collect();
        let [(_, variable, _)] = uniforms[..] else {
            panic!("{what}: {} uniforms instead of one", uniforms.len())
        };
        assert_eq!(variable.name.as_deref(), Some("params"), "{what}: the uniform's name");
        assert_eq!(
            variable.binding,
            Some(ResourceBinding { group: 0, binding: 0 }),
            "{what}: the uniform's binding"
        );
        assert_eq!(
            shader.module.types[variable.ty].name.as_deref(),
            Some("Params"),
            "{what}: the uniform's type"
        );
        let TypeInner::Struct { members, span } = shader.inner(variable.ty) else {
            panic!("{what}: not a struct")
        };
        let rust: Vec<_> = shader
            .kernel
            .params
            .iter()
            .map(|&Field { name, offset, ty }| (name.into(), offset, ty.into()))
            .collect();
        let wgsl: Vec<(String, usize, String)> = members
            .iter()
            .map(|m| (m.name.clone().unwrap_or_default(), m.offset as usize, rust_type(shader, m.ty)))
            .collect();
        assert_eq!(wgsl, rust, "{what}: the WGSL struct is left, the Rust one right");
        let (wgsl, rust) =
            ((*span as usize).next_multiple_of(16), shader.kernel.params_size.next_multiple_of(16));
        assert_eq!(wgsl, rust, "{what}: the parameter block's bytes, to 16");
    });
}

#[test]
fn storage_bindings_are_the_same_in_rust_and_in_wgsl() {
    each_shader(|shader| {
        let what = &shader.what;
        let storage = shader.used().filter_map(|(_, variable, used)| match variable.space {
            AddressSpace::Storage { access } => Some((variable, access, used)),
            _ => None,
        });
        let mut wgsl = BTreeMap::new();
        for (variable, access, used) in storage {
            let name = variable.name.clone().unwrap_or_default();
            let at = variable.binding.unwrap_or_else(|| panic!("{what}: {name} has no binding"));
            let writes = access == StorageAccess::LOAD | StorageAccess::STORE;
            assert!(writes || access == StorageAccess::LOAD, "{what}: {name} is {access:?}");
            assert_eq!(
                writes,
                used.contains(GlobalUse::WRITE),
                "{what}: {name} is {access:?} and used for {used:?}"
            );
            assert!(writes || used.contains(GlobalUse::READ), "{what}: {name} is never read");
            let other = wgsl.insert((at.group, at.binding), (name.clone(), writes));
            assert_eq!(other, None, "{what}: {name} and another variable share binding {}", at.binding);
        }
        let rust = shader.kernel.bindings.iter().zip(1..);
        let rust = rust.map(|(b, at)| ((0, at), (b.name.to_string(), b.access == Access::Write))).collect();
        assert_eq!(wgsl, rust, "{what}: the WGSL's variables are left, the kernel's bindings right");
    });
}

#[test]
fn kernels_stay_within_what_every_device_has() {
    each_shader(|shader| {
        let what = &shader.what;
        let bindings = shader.kernel.bindings.len();
        assert!(bindings <= MAX_STORAGE_BINDINGS, "{what}: {bindings} storage bindings");
        let workgroup = shader.used().filter(|(_, v, _)| v.space == AddressSpace::WorkGroup);
        let bytes: u32 = workgroup.map(|(_, v, _)| shader.inner(v.ty).size(shader.module.to_ctx())).sum();
        assert!(bytes <= MAX_WORKGROUP_BYTES, "{what}: {bytes} bytes of workgroup memory");
        let size = shader.module.entry_points[0].workgroup_size;
        let invocations: u32 = size.iter().product();
        assert!(
            (1..=MAX_INVOCATIONS).contains(&invocations) && size[2] <= 64,
            "{what}: a workgroup of {size:?}"
        );
    });
}

#[test]
fn every_invocation_reaches_every_barrier() {
    each_shader(|shader| {
        let reached = barriers::check(&shader.module, &shader.module.entry_points[0]);
        assert_eq!(reached, Ok(()), "{}", shader.what);
    });
}

#[test]
fn a_barrier_that_some_invocations_miss_is_found() {
    let missed = |body: &str| {
        let source = format!(
            "var<workgroup> shared_value: u32;
            @group(0) @binding(0) var<uniform> limit: u32;
            fn meet() -> u32 {{ workgroupBarrier(); return shared_value; }}
            fn meet_if(go: bool) {{ if go {{ workgroupBarrier(); }} }}
            @compute @workgroup_size(64) fn main(
                @builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>
            ) {{ {body} }}"
        );
        let (module, _) = parse(&source).unwrap();
        barriers::check(&module, &module.entry_points[0]).is_err()
    };
    for (body, wrong) in [
        ("workgroupBarrier();", false),
        ("if group.x >= limit { return; } workgroupBarrier();", false),
        ("if lane >= limit { return; } workgroupBarrier();", true),
        ("if lane == 0u { shared_value = 1u; } workgroupBarrier();", false),
        ("if lane == 0u { workgroupBarrier(); }", true),
        ("for (var i = lane; i < limit; i++) { shared_value = i; } workgroupBarrier();", false),
        ("for (var i = 0u; i < limit; i++) { workgroupBarrier(); }", false),
        ("for (var i = lane; i < limit; i++) { workgroupBarrier(); }", true),
        ("loop { workgroupBarrier(); if lane > limit { break; } }", true),
        ("loop { if lane > limit { return; } if limit > 3u { break; } } workgroupBarrier();", true),
        ("if meet() == 1u { workgroupBarrier(); }", true),
        ("meet_if(limit == 1u);", false),
        ("meet_if(lane == 1u);", true),
        ("var go = 1u; if lane == 0u { go = 0u; } if go == 1u { workgroupBarrier(); }", true),
        ("switch lane { case 1u: { workgroupBarrier(); } default: {} }", true),
    ] {
        assert_eq!(missed(body), wrong, "{body}");
    }
}

#[test]
fn every_kernel_can_be_written_as_hlsl() {
    each_shader(|shader| {
        if uses_matrix_units(shader.kernel) {
            return;
        }
        // f16 came with shader model 6.2, subgroups and 64-bit integers with 6.0; everything else must run where only the old
        // compiler is.
        let models = if shader.f16 || shader.subgroups || shader.int64 {
            &[hlsl::ShaderModel::V6_2][..]
        } else {
            &[hlsl::ShaderModel::V5_1, hlsl::ShaderModel::V6_2]
        };
        for &model in models {
            let text =
                to_hlsl(shader, model).unwrap_or_else(|e| panic!("{}, HLSL {model:?}: {e}", shader.what));
            assert!(text.contains("[numthreads("), "{}: HLSL without an entry point:\n{text}", shader.what);
        }
    });
}

fn to_hlsl(shader: &Shader, shader_model: hlsl::ShaderModel) -> Result<String, String> {
    let target = |binding| {
        let to = hlsl::BindTarget { register: binding, restrict_indexing: true, ..Default::default() };
        (ResourceBinding { group: 0, binding }, to)
    };
    let options = hlsl::Options {
        shader_model,
        binding_map: (0..=shader.kernel.bindings.len() as u32).map(target).collect(),
        fake_missing_bindings: false,
        zero_initialize_workgroup_memory: false,
        ..Default::default()
    };
    let pipeline =
        hlsl::PipelineOptions { entry_point: Some((ShaderStage::Compute, shader.kernel.entry.into())) };
    let mut text = String::new();
    let written = hlsl::Writer::new(&mut text, &options, &pipeline).write(&shader.module, &shader.info, None);
    let names = written.map_err(|e| e.to_string())?.entry_point_names;
    let [name] = &names[..] else { return Err(format!("{} entry points", names.len())) };
    let name = name.as_ref().map_err(|e| e.to_string())?;
    if text.contains(&format!("void {name}(")) { Ok(text) } else { Err(format!("no {name} in\n{text}")) }
}

#[test]
fn every_kernel_can_be_written_as_msl() {
    each_shader(|shader| {
        if shader.kernel.source.contains("coop_mat16x16") {
            return;
        }
        let text = to_msl(shader).unwrap_or_else(|e| panic!("{}, MSL: {e}", shader.what));
        assert!(text.contains("kernel void "), "{}: MSL without an entry point:\n{text}", shader.what);
    });
}

fn to_msl(shader: &Shader) -> Result<String, String> {
    let slots = shader.kernel.bindings.len() as u8;
    let target = |binding: u8| {
        let mutable = binding > 0 && shader.kernel.bindings[binding as usize - 1].access == Access::Write;
        let to = msl::BindTarget { buffer: Some(binding), mutable, ..Default::default() };
        (ResourceBinding { group: 0, binding: binding.into() }, to)
    };
    let resources = msl::EntryPointResources {
        resources: (0..=slots).map(target).collect(),
        sizes_buffer: Some(slots + 1),
        ..Default::default()
    };
    let checks = naga::proc::BoundsCheckPolicies {
        index: naga::proc::BoundsCheckPolicy::Restrict,
        buffer: naga::proc::BoundsCheckPolicy::Restrict,
        ..Default::default()
    };
    let options = msl::Options {
        lang_version: (2, 4),
        per_entry_point_map: [(shader.kernel.entry.to_string(), resources)].into(),
        fake_missing_bindings: false,
        bounds_check_policies: checks,
        zero_initialize_workgroup_memory: false,
        ..Default::default()
    };
    let entry_point = Some((ShaderStage::Compute, shader.kernel.entry.into()));
    let pipeline = msl::PipelineOptions { entry_point, ..Default::default() };
    let written = msl::write_string(&shader.module, &shader.info, &options, &pipeline);
    let (text, info) = written.map_err(|e| e.to_string())?;
    let [name] = &info.entry_point_names[..] else {
        return Err(format!("{} entry points", info.entry_point_names.len()));
    };
    let name = name.as_ref().map_err(|e| e.to_string())?;
    if text.contains(&format!("kernel void {name}(")) {
        Ok(text)
    } else {
        Err(format!("no {name} in\n{text}"))
    }
}

#[test]
fn every_entry_point_is_a_kernel() {
    let mut listed = BTreeMap::<_, Vec<_>>::new();
    // A kernel may be made of several files: those of one source stand together.
    kernels().for_each(|kernel| listed.entry((kernel.name, kernel.source)).or_default().push(kernel));
    for ((name, _), kernels) in listed {
        let (module, _) = parse(&kernels[0].code(&variants(kernels[0])[0])).unwrap();
        let mut in_file: Vec<_> = module.entry_points.iter().map(|entry| entry.name.as_str()).collect();
        let mut in_table: Vec<_> = kernels.iter().map(|kernel| kernel.entry).collect();
        in_file.sort_unstable();
        in_table.sort_unstable();
        assert_eq!(in_file, in_table, "{name}: the file's entry points are left, the table's kernels right");
    }
}
