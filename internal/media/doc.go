// Package media reads the picture a video starts from and writes what the decoder made: H.264 or Motion-JPEG mp4,
// GIF, PNG, a folder of PNG frames, a contact sheet.
//
// Vocabulary: an Image is one RGB picture of 8 bits a channel; a Clip is frames of one size behind each other in
// memory, as the decoder leaves them. Neither owns anything but its bytes.
//
// Nothing half-written is ever left: each output grows in a temporary file beside it and is renamed when complete;
// an error or a cancelled context removes it. Functions are safe for concurrent use on different outputs.
package media
