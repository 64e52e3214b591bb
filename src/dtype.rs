//! Element types.
//!
//! ```
//! use crossmodal::{DType, dtype::Element};
//! assert_eq!((f32::DTYPE, f32::DTYPE.to_string()), (DType::F32, "f32".to_string()));
//! ```

use half::f16;

/// The type of a tensor's elements.
///
/// ```
/// use crossmodal::DType;
/// assert_eq!(DType::F16.size(), 2);
/// assert!(DType::F16.is_float() && !DType::U32.is_float());
/// assert_eq!(DType::F16.to_string(), "f16");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float: every device.
    F32,
    /// 16-bit float in storage, 32-bit in arithmetic: the CPU, and GPUs with the `shader-f16` feature.
    F16,
    /// 64-bit float: the CPU only. Calls on it run the plain definitions in [`reference`](crate::reference).
    F64,
    /// 32-bit unsigned integer: indices.
    U32,
}

impl DType {
    /// Bytes an element takes.
    ///
    /// ```
    /// assert_eq!(crossmodal::DType::F64.size(), 8);
    /// ```
    pub fn size(self) -> usize {
        match self {
            DType::F16 => 2,
            DType::F32 | DType::U32 => 4,
            DType::F64 => 8,
        }
    }

    /// Whether it is a floating-point type.
    ///
    /// ```
    /// assert!(!crossmodal::DType::U32.is_float());
    /// ```
    pub fn is_float(self) -> bool {
        self != DType::U32
    }

    /// The name in WGSL; `f64`, which WGSL lacks.
    ///
    /// ```
    /// assert_eq!(crossmodal::DType::F16.wgsl(), "f16");
    /// ```
    pub fn wgsl(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::U32 => "u32",
            DType::F64 => "f64",
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.wgsl())
    }
}

/// Host memory of one element type.
///
/// ```
/// use crossmodal::{DType, dtype::HostData};
/// let data = HostData::F32(vec![1., 2.]);
/// assert_eq!((data.dtype(), data.bytes().len()), (DType::F32, 8));
/// assert_eq!(data.to_f64(), [1., 2.].as_slice());
/// ```
#[derive(Debug, Clone)]
pub enum HostData {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 16-bit floats.
    F16(Vec<f16>),
    /// 64-bit floats.
    F64(Vec<f64>),
    /// Indices.
    U32(Vec<u32>),
}

impl HostData {
    /// The element type. Example: [`HostData`].
    pub fn dtype(&self) -> DType {
        match self {
            HostData::F32(_) => DType::F32,
            HostData::F16(_) => DType::F16,
            HostData::F64(_) => DType::F64,
            HostData::U32(_) => DType::U32,
        }
    }

    /// The elements' bytes.
    ///
    /// ```
    /// use crossmodal::dtype::HostData;
    /// assert_eq!(HostData::U32(vec![1]).bytes(), 1u32.to_ne_bytes());
    /// ```
    pub fn bytes(&self) -> &[u8] {
        match self {
            HostData::F32(v) => bytemuck::cast_slice(v),
            HostData::F16(v) => bytemuck::cast_slice(v),
            HostData::F64(v) => bytemuck::cast_slice(v),
            HostData::U32(v) => bytemuck::cast_slice(v),
        }
    }

    /// Elements of type `dtype` from their bytes in the host's order.
    ///
    /// ```
    /// use crossmodal::{DType, dtype::HostData};
    /// let data = HostData::from_bytes(DType::U32, &7u32.to_ne_bytes());
    /// assert_eq!(data.to_f64(), [7.].as_slice());
    /// ```
    pub fn from_bytes(dtype: DType, bytes: &[u8]) -> Self {
        match dtype {
            DType::F32 => HostData::F32(bytemuck::pod_collect_to_vec(bytes)),
            DType::F16 => HostData::F16(bytemuck::pod_collect_to_vec(bytes)),
            DType::F64 => HostData::F64(bytemuck::pod_collect_to_vec(bytes)),
            DType::U32 => HostData::U32(bytemuck::pod_collect_to_vec(bytes)),
        }
    }

    /// The values rounded to `dtype`; u32 drops the fraction and saturates.
    ///
    /// ```
    /// use crossmodal::{DType, dtype::HostData};
    /// let data = HostData::from_f64(DType::U32, vec![2.9, -1.]);
    /// assert_eq!(data.to_f64(), [2., 0.].as_slice());
    /// ```
    pub fn from_f64(dtype: DType, values: Vec<f64>) -> Self {
        match dtype {
            DType::F32 => HostData::F32(values.into_iter().map(|v| v as f32).collect()),
            DType::F16 => HostData::F16(values.into_iter().map(to_f16).collect()),
            DType::F64 => HostData::F64(values),
            DType::U32 => HostData::U32(values.into_iter().map(|v| v as u32).collect()),
        }
    }

    /// Some of the values widened to f64.
    pub(crate) fn range_to_f64(&self, range: std::ops::Range<usize>) -> std::borrow::Cow<'_, [f64]> {
        match self {
            HostData::F64(v) => v[range].into(),
            HostData::F32(v) => v[range].iter().map(|&v| f64::from(v)).collect::<Vec<_>>().into(),
            HostData::F16(v) => v[range].iter().map(|v| v.to_f64()).collect::<Vec<_>>().into(),
            HostData::U32(v) => v[range].iter().map(|&v| f64::from(v)).collect::<Vec<_>>().into(),
        }
    }

    /// Parts one after the other; all of one type.
    pub(crate) fn join(dtype: DType, parts: Vec<HostData>) -> Self {
        fn joined<T: Element>(parts: &[HostData]) -> HostData {
            T::wrap(parts.iter().filter_map(T::peek).map(Vec::as_slice).collect::<Vec<_>>().concat())
        }
        match dtype {
            DType::F32 => joined::<f32>(&parts),
            DType::F16 => joined::<f16>(&parts),
            DType::F64 => joined::<f64>(&parts),
            DType::U32 => joined::<u32>(&parts),
        }
    }

    /// The values widened to f64: exact for every type.
    ///
    /// ```
    /// use crossmodal::dtype::HostData;
    /// assert_eq!(HostData::F32(vec![0.5]).to_f64(), [0.5].as_slice());
    /// ```
    pub fn to_f64(&self) -> std::borrow::Cow<'_, [f64]> {
        self.range_to_f64(0..self.bytes().len() / self.dtype().size())
    }
}

/// A Rust type that a tensor can hold.
///
/// ```
/// use crossmodal::dtype::{Element, HostData};
/// let mut data = u32::wrap(vec![1, 2]);
/// assert!(f32::peek(&data).is_none());
/// u32::peek_mut(&mut data).unwrap()[0] = 9;
/// assert_eq!(u32::peek(&data), Some(&vec![9, 2]));
/// ```
pub trait Element: bytemuck::Pod + Default + Send + Sync {
    /// The matching [`DType`].
    const DTYPE: DType;
    /// Wraps host memory.
    fn wrap(values: Vec<Self>) -> HostData;
    /// The host memory, if it is of this type.
    fn peek(data: &HostData) -> Option<&Vec<Self>>;
    /// The host memory for writing, if it is of this type.
    fn peek_mut(data: &mut HostData) -> Option<&mut Vec<Self>>;
}

/// The four pairs of a Rust type and its [`HostData`] variant, written once.
macro_rules! element {
    ($type:ty, $variant:ident) => {
        impl Element for $type {
            const DTYPE: DType = DType::$variant;
            fn wrap(values: Vec<Self>) -> HostData {
                HostData::$variant(values)
            }
            fn peek(data: &HostData) -> Option<&Vec<Self>> {
                if let HostData::$variant(v) = data { Some(v) } else { None }
            }
            fn peek_mut(data: &mut HostData) -> Option<&mut Vec<Self>> {
                if let HostData::$variant(v) = data { Some(v) } else { None }
            }
        }
    };
}
element!(f32, F32);
element!(f16, F16);
element!(f64, F64);
element!(u32, U32);

/// The nearest f16. The conversion of the half crate goes by way of f32 where the processor has one for f16, and so rounds
/// twice; here what the first rounding left over is kept in the last bit, which f16 does not have.
fn to_f16(value: f64) -> f16 {
    let near = value as f32;
    if f64::from(near) == value || !near.is_finite() {
        return f16::from_f32(near);
    }
    let beyond = f64::from(near).abs() > value.abs();
    let towards_zero = near.to_bits() - u32::from(beyond);
    f16::from_f32(f32::from_bits(towards_zero | 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f16_is_rounded_once() {
        let half_step = 2f64.powi(-11);
        for (value, want) in [
            (1. + half_step, 1.),
            (1. + half_step + 2f64.powi(-40), 1.0009765625),
            (1. + 3. * half_step - 2f64.powi(-40), 1.0009765625),
            (-1. - half_step - 2f64.powi(-50), -1.0009765625),
            (65519.999999, 65504.),
            (1e300, f64::INFINITY),
            (1e-300, 0.),
            (2f64.powi(-25) * 1.0000000001, 2f64.powi(-24)),
        ] {
            assert_eq!(to_f16(value).to_f64(), want, "{value:e}");
        }
        assert!(to_f16(f64::NAN).is_nan());
    }
}
