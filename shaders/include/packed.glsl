// Where fragments (include/fragments.glsl) of the operands of linear layers lie: GROUP of them that lie below each other in the matrix follow each
// other, as a subgroup reads them, and after them come those to their right.

#ifndef PACKED_GLSL
#define PACKED_GLSL

const uint GROUP = 4;
const uint FRAGMENT_WORDS = 32; // of 16 bytes

// fragment_at returns the word at which a fragment begins in a matrix of so many columns of fragments.
uint fragment_at(uint row, uint col, uint cols) { return ((row / GROUP * cols + col) * GROUP + row % GROUP) * FRAGMENT_WORDS; }

#endif
