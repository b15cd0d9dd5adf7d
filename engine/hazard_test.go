package engine_test

import (
	"testing"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/engine/enginetest"
)

// hazardCase is a program in which one barrier or one wait is needed.
type hazardCase struct {
	name  string
	omit  engine.TestLimits // leaves it out
	needs enginetest.Sight  // of a layer that sees the difference
	work  func(t *testing.T, d *engine.Device, x, y engine.Tensor)
}

func hazardCases() []hazardCase {
	barrier, wait, copyWait := engine.TestLimits{OmitBarrier: 1}, engine.TestLimits{OmitWait: 1}, engine.TestLimits{OmitCopyWait: 1}
	flush := func(t *testing.T, s *engine.Stream) engine.Point {
		value, err := s.Flush()
		if err != nil {
			t.Fatal(err)
		}
		return engine.Point{Stream: s, Value: value}
	}
	return []hazardCase{
		{"two dispatches write one range", barrier, enginetest.SeesAll, func(t *testing.T, d *engine.Device, x, y engine.Tensor) {
			fill(d.Compute(), x, 1)
			fill(d.Compute(), x.Rows(8, 16), 2)
		}},
		{"a copy reads what a dispatch wrote", barrier, enginetest.SeesCopies, func(t *testing.T, d *engine.Device, x, y engine.Tensor) {
			fill(d.Compute(), x, 1)
			d.Compute().Copy(y, x)
		}},
		{"a copy writes what a dispatch wrote", barrier, enginetest.SeesCopies, func(t *testing.T, d *engine.Device, x, y engine.Tensor) {
			fill(d.Compute(), y, 1)
			d.Compute().Copy(y, x)
		}},
		{"a dispatch writes what a copy read", barrier, enginetest.SeesAll, func(t *testing.T, d *engine.Device, x, y engine.Tensor) {
			d.Compute().Copy(y, x)
			fill(d.Compute(), x, 1)
		}},
		{"a dispatch writes what a fill wrote", barrier, enginetest.SeesAll, func(t *testing.T, d *engine.Device, x, y engine.Tensor) {
			d.Compute().Fill(x, 1)
			fill(d.Compute(), x, 2)
		}},
		{"two copies write one range", barrier, enginetest.SeesCopies, func(t *testing.T, d *engine.Device, x, y engine.Tensor) {
			d.Compute().Copy(y, x)
			d.Compute().Fill(y, 3)
		}},
		{"a copy in a second submit reads what a dispatch wrote", barrier, enginetest.SeesAll, func(t *testing.T, d *engine.Device, x, y engine.Tensor) {
			fill(d.Compute(), x, 1)
			flush(t, d.Compute())
			d.Compute().Copy(y, x)
		}},
		{"the transfer queue reads what compute wrote", copyWait, enginetest.SeesAll, func(t *testing.T, d *engine.Device, x, y engine.Tensor) {
			fill(d.Compute(), x, 1)
			d.Transfer().Wait(flush(t, d.Compute()))
			d.Transfer().Copy(y, x)
		}},
		{"the transfer queue writes what compute may still read", copyWait, enginetest.SeesAll, func(t *testing.T, d *engine.Device, x, y engine.Tensor) {
			d.Compute().Copy(y, x)
			d.Transfer().Wait(flush(t, d.Compute()))
			d.Transfer().Fill(x, 2)
		}},
		{"compute writes what the transfer queue may still read", wait, enginetest.SeesAll, func(t *testing.T, d *engine.Device, x, y engine.Tensor) {
			d.Transfer().Copy(y, x)
			d.Compute().Wait(flush(t, d.Transfer()))
			fill(d.Compute(), x, 2)
		}},
		{"compute reads what the transfer queue wrote", wait, enginetest.SeesAll, func(t *testing.T, d *engine.Device, x, y engine.Tensor) {
			d.Transfer().Fill(x, 2)
			d.Compute().Wait(flush(t, d.Transfer()))
			d.Compute().Copy(y, x)
		}},
	}
}

func (c hazardCase) run(t *testing.T, d *engine.Device) {
	var tensors [2]engine.Tensor
	for k := range tensors {
		var err error // large, so that work lasts longer than the host takes for the next submit
		if tensors[k], err = d.Alloc("hazard test", engine.U32, 1<<22); err != nil {
			t.Fatal(err)
		}
		defer d.Free(tensors[k])
	}
	c.work(t, d, tensors[0], tensors[1])
	streams := []*engine.Stream{d.Transfer(), d.Compute()}
	for _, s := range streams {
		if _, err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range streams {
		if err := s.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCorrectProgramsCauseNoMessage(t *testing.T) {
	for _, c := range hazardCases() {
		t.Run(c.name, func(t *testing.T) { c.run(t, enginetest.Open(t)) })
	}
}

func TestEveryPlantedHazardIsReported(t *testing.T) {
	for _, c := range hazardCases() {
		t.Run(c.name, func(t *testing.T) {
			enginetest.PlantedHazard(t, c.omit, c.needs, func(d *engine.Device) { c.run(t, d) })
		})
	}
}
