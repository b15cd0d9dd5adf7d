// Package progress tells the person at the terminal how far a long run is: stage, step, seconds a step, time left,
// device memory.
//
// On a terminal one line is redrawn in place, with a carriage return and blanks only, which every console knows,
// old Windows ones included. Elsewhere (a file, a pipe, TERM=dumb) plain lines appear when a stage begins and ends
// and now and then between. Progress goes to standard error, so that standard output stays what the user asked for.
//
// No library is used: those at hand (schollz/progressbar, vbauerster/mpb) bring colour, width tables and several
// bars at once and still need the plain mode, the memory column and the cut for narrow terminals written beside them.
//
// A Reporter is safe for concurrent use. A nil *Reporter does nothing, so callers need not ask whether there is one.
package progress
