alias left_block = coop_mat8x8<f16, A>;
alias right_block = coop_mat8x8<f16, B>;
alias sum_block = coop_mat8x8<f32, C>;
const SIDE: u32 = 8u;

@compute @workgroup_size(THREADS)
fn cooperative_8(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    tile_of_product(params.first_group + group_index(group, groups), thread, subgroup, lane);
}
