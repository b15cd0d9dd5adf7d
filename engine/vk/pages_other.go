//go:build !linux

package vk

func advise([]byte) {}
