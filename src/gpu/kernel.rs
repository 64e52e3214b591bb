//! A kernel is constant data: a WGSL source, an entry point, the layout of its parameters and of its
//! bindings. No wgpu.

use crate::dtype::DType;

/// How a kernel touches a bound tensor.
///
/// ```
/// use crossmodal::{gpu::Access, ops::softmax::KERNELS};
/// let access: Vec<_> = KERNELS[0].bindings.iter().map(|binding| binding.access).collect();
/// assert_eq!(access, [Access::Read, Access::Write]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// It only reads.
    Read,
    /// It writes, and may read.
    Write,
}

/// A storage binding: group 0, bindings 1, 2, … in the order of [`Kernel::bindings`].
///
/// ```
/// let forward = crossmodal::ops::softmax::KERNELS[0];
/// assert_eq!(forward.bindings.iter().map(|binding| binding.name).collect::<Vec<_>>(), ["x", "out"]);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    /// The variable's name in the WGSL.
    pub name: &'static str,
    /// How it is touched.
    pub access: Access,
}

/// A tensor that is only read.
pub(crate) const fn read(name: &'static str) -> Binding {
    Binding { name, access: Access::Read }
}

/// A tensor that is written.
pub(crate) const fn write(name: &'static str) -> Binding {
    Binding { name, access: Access::Write }
}

/// A field of a parameter block, declared once in Rust; a test compares it with the WGSL struct through naga.
///
/// ```
/// let field = crossmodal::ops::softmax::KERNELS[0].params[1];
/// assert_eq!((field.name, field.offset, field.ty), ("cols", 4, "u32"));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// The field's name.
    pub name: &'static str,
    /// Its offset in bytes.
    pub offset: usize,
    /// The Rust type: `u32`, `f32` or `[u32; 8]`.
    pub ty: &'static str,
}

/// A parameter block: the uniform at group 0, binding 0, in WGSL `params: Params`.
pub(crate) trait Params: bytemuck::Pod {
    /// The fields in order.
    const FIELDS: &'static [Field];
}

/// Declares a parameter block and its field list together, so that they cannot drift apart.
macro_rules! params {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($field:ident: $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        $vis struct $name { $($vis $field: $ty),* }
        impl crate::gpu::kernel::Params for $name {
            const FIELDS: &'static [crate::gpu::kernel::Field] = &[$(crate::gpu::kernel::Field {
                name: stringify!($field),
                offset: std::mem::offset_of!($name, $field),
                ty: stringify!($ty),
            }),*];
        }
    };
}
pub(crate) use params;

/// What of a device decides how a kernel is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Abilities {
    /// It runs on a CPU.
    pub software: bool,
    /// Its shaders have 64-bit integers.
    pub int64: bool,
    /// It has memory of its own.
    pub discrete: bool,
    /// The smallest and the largest subgroup; zeros where there are no subgroup operations.
    pub subgroup_sizes: (u32, u32),
    /// The side of the square blocks that its matrix units multiply, f16 in and f32 out; 0 without them.
    pub cooperative: u32,
    /// Bytes that a workgroup shares.
    pub workgroup_memory: u32,
    /// Invocations of a workgroup.
    pub invocations: u32,
    /// Floating-point operations in one dispatch: a desktop driver resets the device after about two seconds.
    pub flops_at_once: f64,
}

/// One entry point of one WGSL file.
///
/// ```
/// let forward = crossmodal::ops::softmax::KERNELS[0];
/// assert_eq!((forward.name, forward.entry, forward.params_size), ("softmax", "forward", 8));
/// assert!(forward.source.contains("fn forward("));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// The file: `shaders/<name>.wgsl`.
    pub name: &'static str,
    /// The entry point.
    pub entry: &'static str,
    /// Shared functions and the file, concatenated; [`Kernel::code`] is what stands in front too.
    pub source: &'static str,
    /// The parameter block's fields.
    pub params: &'static [Field],
    /// The parameter block's bytes.
    pub params_size: usize,
    /// The storage bindings.
    pub bindings: &'static [Binding],
    /// Constants that the source leaves open, with what they are where a [`Variant`] does not say.
    pub constants: &'static [(&'static str, u32)],
    /// Whether it is compiled without the checks of indices that WGSL compilers add: only where a test proves every
    /// index into workgroup memory (`tests/indices.rs`); what lies behind a tensor's buffer the driver keeps apart.
    pub unchecked: bool,
}

impl Kernel {
    /// A kernel whose parameters are `P`.
    pub(crate) const fn new<P: Params>(
        name: &'static str,
        entry: &'static str,
        source: &'static str,
        bindings: &'static [Binding],
    ) -> Self {
        let params_size = size_of::<P>();
        let (params, constants) = (P::FIELDS, &[] as &[_]);
        Kernel { name, entry, source, params, params_size, bindings, constants, unchecked: false }
    }

    /// What a device compiles: the element types, the constants, the source.
    ///
    /// ```
    /// use crossmodal::{DType, gpu::Variant, ops::softmax::KERNELS};
    /// let code = KERNELS[0].code(&Variant::of(DType::F32).with("TILE", 4));
    /// assert!(code.starts_with("alias elem = f32;\nalias elem_out = f32;\nconst TILE: u32 = 4u;\n"));
    /// assert!(code.ends_with(KERNELS[0].source));
    /// ```
    pub fn code(&self, variant: &Variant) -> String {
        let open =
            self.constants.iter().filter(|(name, _)| variant.constants.iter().all(|own| own.0 != *name));
        let constants = variant.constants.iter().chain(open);
        let lines: String =
            constants.map(|(name, value)| format!("const {name}: u32 = {value}u;\n")).collect();
        let matrices =
            if self.source.contains("coop_mat") { "enable wgpu_cooperative_matrix;\n" } else { "" };
        matrices.to_string() + &variant.prelude() + &lines + self.source
    }
}

/// What distinguishes two pipelines of one kernel: the element types and the constants.
///
/// ```
/// use crossmodal::{DType, gpu::Variant};
/// let variant = Variant::of(DType::F16).with("TILE", 4);
/// assert_eq!((variant.elem, variant.constants), (DType::F16, vec![("TILE", 4)]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Variant {
    /// `elem`: the type of the tensors' elements.
    pub elem: DType,
    /// `elem_out`: the type of the output where it may differ (`cast`).
    pub elem_out: DType,
    /// Values of [`Kernel::constants`], by name.
    pub constants: Vec<(&'static str, u32)>,
}

impl Variant {
    /// One element type throughout, no constants of its own. Example: [`Variant`].
    pub fn of(elem: DType) -> Self {
        Variant { elem, elem_out: elem, constants: vec![] }
    }

    /// The same with one more constant set. Example: [`Variant`].
    pub fn with(mut self, name: &'static str, value: u32) -> Self {
        self.constants.push((name, value));
        self
    }

    /// The generated lines in front of every shader: the element types.
    ///
    /// ```
    /// use crossmodal::{DType, gpu::Variant};
    /// assert_eq!(Variant::of(DType::F32).prelude(), "alias elem = f32;\nalias elem_out = f32;\n");
    /// ```
    pub fn prelude(&self) -> String {
        let f16 = self.elem == DType::F16 || self.elem_out == DType::F16;
        format!(
            "{}alias elem = {};\nalias elem_out = {};\n",
            if f16 { "enable f16;\n" } else { "" },
            self.elem.wgsl(),
            self.elem_out.wgsl()
        )
    }
}
