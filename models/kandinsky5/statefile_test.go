package kandinsky5

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/receipt"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// smallState is a sound state of no particular run.
func smallState() *State {
	size := configs.Size{Width: 16, Height: 32}
	return &State{
		Settings: Settings{Prompt: "a fox — лиса", Steps: 5, Guidance: 4, SchedulerScale: 5, Seed: 1<<64 - 1, Size: size,
			Geometry: configs.Geometry{Seconds: 0, Size: size, Frames: 1, LatentFrames: 1, LatentHeight: 4, LatentWidth: 2}},
		Step: 3, Latents: []float32{1, -2, 3e-40, 4, 5, 6, 7, 8}, Earlier: []Earlier{{1, make([]float32, 8)}, {2, []float32{1, 1, 2, 2, 3, 3, 4, 4}}}, FirstFrame: []float32{8, 7, 6, 5, 4, 3, 2, 1},
		Prompts:   []EncodedPrompt{{Text: []float32{1, 2}, Pooled: []float32{3}}, {Text: []float32{4, 5}, Pooled: []float32{6}}},
		Precision: load.Float32, Linear: load.LinearInt8, Attention: load.AttentionSage, Host: load.FullWeights, Model: "m", Config: "c", Hashes: &Hashes{Noise: receipt.Sum(nil), Latents: []string{"", receipt.Sum([]byte{1}), ""}}, Notes: map[string]string{"flags": `{"seed":"7"}`, "empty": ""},
		Rounding: receipt.Rounding{Device: "gpu — №1", Operands: receipt.PackedOperands},
	}
}

// encoded is a state file's bytes.
func encoded(t testing.TB, s *State) []byte {
	t.Helper()
	tensors, metadata, err := s.encode()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := weights.Encode(&out, tensors, metadata); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestAStateComesBackFromItsFile(t *testing.T) {
	want := smallState()
	if got := throughFile(t, want); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	want.Earlier, want.FirstFrame, want.Prompts, want.Hashes, want.Notes, want.Rounding = nil, nil, want.Prompts[:1], nil, map[string]string{}, receipt.Rounding{}
	if got := throughFile(t, want); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestHashesThatAreNoneAreRefused(t *testing.T) {
	for want, damage := range map[string]func(*Hashes){
		"no SHA-256": func(h *Hashes) { h.Noise = "../../x" }, "4 steps": func(h *Hashes) { h.Latents = make([]string, 4) }, `"00"`: func(h *Hashes) { h.Latents[2] = "00" },
	} {
		s := smallState()
		damage(s.Hashes)
		if _, err := ParseState(encoded(t, s)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is wanted, got %v", want, err)
		}
	}
}

func TestDamagedStatesAreRefused(t *testing.T) {
	sound := encoded(t, smallState())
	dir := t.TempDir()
	refused := func(name string, data []byte, parts ...string) {
		t.Helper()
		path := filepath.Join(dir, "x.state")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := ReadState(path)
		if !errors.Is(err, ErrState) || s != nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
			return
		}
		for _, p := range append(parts, path) {
			if !strings.Contains(err.Error(), p) {
				t.Errorf("%s: %q lacks %q", name, err, p)
			}
		}
	}
	for n := range sound {
		if _, err := ParseState(sound[:n]); err == nil {
			t.Errorf("the first %d of %d bytes are taken for a state", n, len(sound))
		}
	}
	for k := range sound {
		bad := bytes.Clone(sound)
		bad[k] ^= 1
		if _, err := ParseState(bad); err == nil {
			t.Errorf("byte %d may change", k)
		}
	}
	refused("empty", nil, "too few")
	refused("truncated", sound[:len(sound)-5], "truncated or damaged")
	refused("one bit", append(bytes.Clone(sound[:len(sound)-1]), sound[len(sound)-1]^1), "checksum")
	refused("huge header", append([]byte{255, 255, 255, 255, 255, 255, 255, 127}, sound[8:]...), "header length")
	refused("huge tensor", bytes.Replace(sound, []byte(`"shape":[1,4,2,1]`), []byte(`"shape":[9,9,9,9]`), 1), "tensor")
	refused("another version", bytes.Replace(sound, []byte(`"vkandinsky_state":"1"`), []byte(`"vkandinsky_state":"2"`), 1), "version")
	refused("a checkpoint", bytes.Replace(sound, []byte(`"vkandinsky_state":`), []byte(`"vkandinsky_stale":`), 1), "without a state")
	if _, err := ReadState(dir); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := ReadState(filepath.Join(dir, "none")); !errors.Is(err, ErrState) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	huge := filepath.Join(dir, "huge.state")
	if err := os.WriteFile(huge, sound, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(huge, 1<<40); err != nil {
		t.Skip("the file system has no files with holes")
	}
	if _, err := ReadState(huge); !errors.Is(err, ErrState) || !strings.Contains(err.Error(), "no state has more") {
		t.Errorf("a huge file: %v", err)
	}
}

func TestAStateThatCannotBeWrittenLeavesTheOldOne(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.state")
	if err := WriteState(filepath.Join(dir, "none", "x.state"), smallState()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := WriteState(path, smallState()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a folder in the way: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left %v, %v", entries, err)
	}
}

// FuzzParseState looks for inputs that break the reader. What it takes must be what it writes: the checksum is of all that
// is there.
func FuzzParseState(f *testing.F) {
	sound := encoded(f, smallState())
	f.Add(sound)
	f.Add(sound[:len(sound)/2])
	for _, change := range [][2]string{{`"step":"3"`, `"step":"-"`}, {"F32", "F16"}, {"latents", "latent_"}, {`"4"`, `"9"`}, {`Steps`, `Stepz`}} {
		f.Add(bytes.ReplaceAll(sound, []byte(change[0]), []byte(change[1])))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ParseState(resum(data))
		if err != nil {
			if s != nil || strings.ContainsAny(err.Error(), "\n\r") {
				t.Errorf("state %v, error %q", s, err)
			}
			return
		}
		config := &configs.Config{}
		_ = s.check(config) // may refuse, must not panic
		if again, err := ParseState(encoded(t, s)); err != nil || again.Step != s.Step || len(again.Latents) != len(s.Latents) {
			t.Errorf("written once more: %v", err)
		}
	})
}

// resum makes an input's checksum right, so that fuzzing sees what is behind it.
func resum(data []byte) []byte {
	file, err := weights.OpenBytes("fuzz", data)
	if err != nil || file.Metadata() == nil {
		return data
	}
	var tensors []weights.Tensor
	for _, name := range file.Names() {
		tensor, _ := file.Tensor(name)
		tensors = append(tensors, tensor)
	}
	metadata := file.Metadata()
	metadata[keySum] = stateSum(tensors, metadata)
	var out bytes.Buffer
	if weights.Encode(&out, tensors, metadata) != nil {
		return data
	}
	return out.Bytes()
}
