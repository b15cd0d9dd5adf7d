// A one-dimensional range of work folded over the x and y axes of the dispatch, because an axis may be limited to 65,535
// workgroups. The shader checks the index against its own count. Include it after the declaration of the local size.

#ifndef GRID_GLSL
#define GRID_GLSL

uint grid_index() {
	return (gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x) * gl_WorkGroupSize.x + gl_LocalInvocationIndex;
}

#endif
