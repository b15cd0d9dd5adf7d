package kandinsky5

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/receipt"
	"github.com/vkandinsky/vkandinsky/shaders"
)

// rounding is what decides this run's last bits, as far as it is settled: where adapters are added is known once the
// transformer is there, and how frames are cut for good when they are decoded.
func (g *run) rounding() receipt.Rounding {
	info, caps := g.device.Summary.Physical.Info, g.device.Caps()
	r := receipt.Rounding{
		Device: info.Name, Driver: strings.TrimSpace(info.Driver + " " + info.DriverInfo), Kernels: caps.Tier.String(),
		Matrices: matricesText(caps), Operands: receipt.PlainOperands, Tuned: tunedText(g.device.Tuning().All()), Code: kernelCode(),
	}
	if g.plan != nil {
		r.Tiles = tilesText(g.plan.Choice.Tile[0], g.plan.Choice.Tile[1])
	}
	if g.packs() {
		r.Operands = receipt.PackedOperands
	}
	if len(g.adapters.Applied()) > 0 && g.dit != nil {
		r.Adapters = string(g.dit.Adapters())
	}
	return r
}

// packs tells whether the operands of linear layers are packed.
func (g *run) packs() bool { return g.plan != nil && g.plan.Choice.Packed }

// unpackedBefore says that the run which is continued computed without packed operands: so the rest of it is to be.
func (r Request) unpackedBefore() bool {
	return r.Resume != nil && r.Resume.Step > 0 && strings.HasSuffix(r.Resume.Rounding.Operands, receipt.PlainOperands)
}

// settleRounding notes how the steps from here on are computed, beside how those before were.
func (g *run) settleRounding() {
	now := g.rounding()
	g.tellRounding(now)
	if g.from != nil {
		now = now.After(g.from.Rounding, g.from.Step)
	}
	g.rounds = now
}

// tellRounding says in one line in what this run rounds otherwise than the one it continues or repeats, and once for many
// clips.
func (g *run) tellRounding(now receipt.Rounding) {
	was, what := g.request.Like, "the recorded run"
	if s := g.settings.resume; s != nil {
		was, what = &s.Rounding, "the run that is continued"
	}
	if was == nil {
		return
	}
	var list []string
	for _, d := range was.Against(now) {
		list = append(list, fmt.Sprintf("%s: %s there, %s here", d.Name, d.A, d.B))
	}
	text := strings.Join(list, "; ")
	if text == "" || text == g.toldRounding {
		return
	}
	g.toldRounding = text
	g.log.Warn("here last bits may come out otherwise than in "+what, "because", text)
}

// tilesText names the tiles that frames are decoded in, in pixels.
func tilesText(height, width int) string { return fmt.Sprintf("%d×%d", width, height) }

// matricesText names the products of matrices that kernels use, and whether they build matrices element by element.
func matricesText(c engine.Caps) string {
	text := "none"
	switch {
	case c.Tier >= engine.TierMatrix2:
		text = c.Matrix.String() + ", flexible " + c.Matrix2.String()
	case c.Tier >= engine.TierMatrix:
		text = c.Matrix.String()
	}
	switch c.Fragments {
	case engine.MatrixFragments:
		text += ", with fragments"
	case engine.EmulatedFragments:
		text += ", with emulated fragments"
	}
	return text
}

// tunedText counts the choices of tiles that were measured on the device, and identifies them.
func tunedText(list []engine.Tuned) string {
	if len(list) == 0 {
		return "none"
	}
	h := sha256.New()
	for _, t := range list {
		fmt.Fprintf(h, "%q %q %q\n", t.Kernel, t.Shape, t.Choice)
	}
	return fmt.Sprintf("%d, %s", len(list), hex.EncodeToString(h.Sum(nil)[:4]))
}

// kernelCode identifies all kernels that the program has.
func kernelCode() string {
	h := sha256.New()
	for _, name := range shaders.Names() {
		fmt.Fprintf(h, "%s %s\n", name, engine.CodeHash(name))
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
