// Package termpic shows small clips in terminals that can show pictures: by Kitty's graphics protocol and by iTerm2's inline
// files animated, by sixels as one frame. Which of them a terminal knows is told from its environment variables; none is
// asked, as an answer would arrive among what the user types.
package termpic
