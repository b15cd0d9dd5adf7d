// Package receipt says what made a clip: a JSON file beside it with the settings, the weights, the device, and a hash of
// what every stage gave. With it a clip can be made again, and two runs that should be alike can be compared down to the
// first step that is not.
//
// Words: a digest is a SHA-256 in lower-case hexadecimal. A fingerprint is the digest of a part of a weights file; see
// Fingerprint for what it covers. A setting decides what is computed; how memory is held (Memory) must not.
//
// A Receipt is plain data without an owner. A receipt may come from anybody: Parse bounds what it reads and refuses what
// no run can have written. Nothing is ever written to a path that a receipt names.
package receipt
