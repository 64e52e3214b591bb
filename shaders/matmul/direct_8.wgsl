@compute @workgroup_size(THREADS)
fn direct_8(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    tile_of_product(params.first_group + group_index(group, groups), thread, subgroup, lane);
}
