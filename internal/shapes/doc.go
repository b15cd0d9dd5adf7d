// Package shapes draws single coloured shapes on plain backgrounds, finds them again in pictures, and judges whether a
// clip shows the motion that its caption names. The small model inside the program was trained on such clips; tests
// measure what it makes with this package.
//
// Coordinates are in pixels, x to the right and y down, with the corner of the picture at 0, so that the centre of the
// first pixel is at 0.5. Colours are in levels from 0 to 255. Formulas are those of the training data
// (tools/tinymodel/data.py and words.py); everything is a pure function.
package shapes
