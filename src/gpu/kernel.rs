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
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($seen:vis $field:ident: $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        $vis struct $name { $($seen $field: $ty),* }
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
    /// Shared functions and the file, concatenated. The element types stand in front of it, see [`Variant::prelude`].
    pub source: &'static str,
    /// The parameter block's fields.
    pub params: &'static [Field],
    /// The parameter block's bytes.
    pub params_size: usize,
    /// The storage bindings.
    pub bindings: &'static [Binding],
}

impl Kernel {
    /// A kernel whose parameters are `P`.
    pub(crate) const fn new<P: Params>(
        name: &'static str,
        entry: &'static str,
        source: &'static str,
        bindings: &'static [Binding],
    ) -> Self {
        Kernel { name, entry, source, params: P::FIELDS, params_size: size_of::<P>(), bindings }
    }
}

/// What distinguishes two pipelines of one kernel: the element types and the `override` constants.
///
/// ```
/// use crossmodal::{DType, gpu::Variant};
/// let variant = Variant::of(DType::F16).with("tile", 4);
/// assert_eq!((variant.elem, variant.constants), (DType::F16, vec![("tile", 4)]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Variant {
    /// `elem`: the type of the tensors' elements.
    pub elem: DType,
    /// `elem_out`: the type of the output where it may differ (`cast`).
    pub elem_out: DType,
    /// Values of `override` constants, by name.
    pub constants: Vec<(&'static str, u32)>,
}

impl Variant {
    /// One element type throughout, no constants. Example: [`Variant`].
    pub fn of(elem: DType) -> Self {
        Variant { elem, elem_out: elem, constants: vec![] }
    }

    /// The same with one more `override` constant set. Example: [`Variant`].
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
