// sums + x yᵀ
fn add_outer(sums: mat4x4<f32>, x: vec4<f32>, y: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(
        fma(vec4(x.x), y, sums[0]),
        fma(vec4(x.y), y, sums[1]),
        fma(vec4(x.z), y, sums[2]),
        fma(vec4(x.w), y, sums[3]),
    );
}
