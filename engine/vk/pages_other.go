//go:build !linux

package vk

import mmap "github.com/edsrzf/mmap-go"

const private = mmap.RDWR

func advise([]byte) {}
