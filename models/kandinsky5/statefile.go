package kandinsky5

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/vkandinsky/vkandinsky/internal/media"
	"github.com/vkandinsky/vkandinsky/internal/numeric"
	"github.com/vkandinsky/vkandinsky/internal/smallfile"
	"github.com/vkandinsky/vkandinsky/models/load"
	"github.com/vkandinsky/vkandinsky/models/receipt"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// A state file is a safetensors file: latents, earlier.STEP, first_frame, prompt.N.text and prompt.N.pooled in F32, and metadata with the
// settings as JSON, the notes, and a SHA-256 over everything else.
const (
	stateVersion = "1"
	keyVersion   = "vkandinsky_state"
	keySum       = "sha256"
	keySettings  = "settings"
	keyStep      = "step"
	keyPrecision = "precision"
	keyLinear    = "linear"
	keyAttention = "attention" // may be missing: the program's own
	keyHost      = "host_weights"
	keyModel     = "model"
	keyConfig    = "config"
	keyHashes    = "hashes"   // may be missing
	keyRounding  = "rounding" // may be missing
	notePrefix   = "note."

	nameLatents = "latents"
	nameEarlier = "earlier." // and the step
	nameFirst   = "first_frame"

	// maxStateBytes is above what the largest clip that models have positions for takes.
	maxStateBytes = 1 << 30
)

// ErrState is what every error about a file that is no sound state wraps.
var ErrState = errors.New("no state that can be continued")

// WriteState writes a state to a file. The file appears complete, on the disk and not only in the system's memory, or the
// one of that name stays as it was.
func WriteState(path string, s *State) error {
	tensors, metadata, err := s.encode()
	if err != nil {
		return err
	}
	return media.WriteFile(path, func(w io.Writer) error { return weights.Encode(w, tensors, metadata) })
}

func (s *State) encode() ([]weights.Tensor, map[string]string, error) {
	settings, err := json.Marshal(s.Settings)
	if err != nil {
		return nil, nil, err
	}
	g := s.Settings.Geometry
	tensors := []weights.Tensor{stateTensor(nameLatents, s.Latents, g.LatentFrames, g.LatentHeight, g.LatentWidth, -1)}
	for _, e := range s.Earlier {
		tensors = append(tensors, stateTensor(nameEarlier+strconv.Itoa(e.Step), e.Latents, g.LatentFrames, g.LatentHeight, g.LatentWidth, -1))
	}
	if s.FirstFrame != nil {
		tensors = append(tensors, stateTensor(nameFirst, s.FirstFrame, 1, g.LatentHeight, g.LatentWidth, -1))
	}
	for k, p := range s.Prompts {
		tensors = append(tensors, stateTensor(promptName(k, "text"), p.Text, -1), stateTensor(promptName(k, "pooled"), p.Pooled, -1))
	}
	metadata := map[string]string{keyVersion: stateVersion, keySettings: string(settings), keyStep: strconv.Itoa(s.Step),
		keyPrecision: s.Precision.String(), keyLinear: s.Linear.String(), keyHost: string(s.Host), keyModel: s.Model, keyConfig: s.Config}
	if s.Attention != load.AttentionOwn {
		metadata[keyAttention] = s.Attention.String()
	}
	if s.Hashes != nil {
		text, err := json.Marshal(s.Hashes.complete())
		if err != nil {
			return nil, nil, err
		}
		metadata[keyHashes] = string(text)
	}
	if s.Rounding != (receipt.Rounding{}) {
		text, err := json.Marshal(s.Rounding)
		if err != nil {
			return nil, nil, err
		}
		metadata[keyRounding] = string(text)
	}
	for name, text := range s.Notes {
		metadata[notePrefix+name] = text
	}
	metadata[keySum] = stateSum(tensors, metadata)
	return tensors, metadata, nil
}

func promptName(k int, part string) string { return fmt.Sprintf("prompt.%d.%s", k, part) }

// stateTensor makes a tensor of a shape whose last extent follows from the others.
func stateTensor(name string, values []float32, shape ...int) weights.Tensor {
	rest := 1
	for _, n := range shape[:len(shape)-1] {
		rest *= n
	}
	if rest < 1 || len(values)%rest != 0 { // a state that check would refuse
		rest, shape = 1, shape[:1]
	}
	shape[len(shape)-1] = len(values) / rest
	t := weights.Tensor{Name: name, DType: weights.F32, Shape: shape, Data: make([]byte, 4*len(values))}
	numeric.BytesFromF32s(t.Data, values)
	return t
}

// stateSum is a SHA-256 over the metadata, but for the sum itself, and the tensors, in the order of their names. Every part
// begins with its length, so that none can pass for the end of another.
func stateSum(tensors []weights.Tensor, metadata map[string]string) string {
	h := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		if key != keySum {
			addText(h, key)
			addText(h, metadata[key])
		}
	}
	tensors = slices.SortedFunc(slices.Values(tensors), func(a, b weights.Tensor) int { return strings.Compare(a.Name, b.Name) })
	for _, t := range tensors {
		addText(h, fmt.Sprintf("%q %s %v", t.Name, t.DType, t.Shape))
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(t.Data))))
		h.Write(t.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func addText(h hash.Hash, text string) {
	h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(text))))
	io.WriteString(h, text)
}

// ReadState reads a state file. Errors are one line, name the file and wrap ErrState. Whether the state goes with a model is
// for Resolve and Generate to say.
func ReadState(path string) (*State, error) {
	data, err := smallfile.Read(path, maxStateBytes, "state")
	if err == nil {
		var s *State
		if s, err = ParseState(data); err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("%s: %w: %w", path, ErrState, err)
}

// ParseState reads a state file's bytes. It allocates no more than a few times as much.
func ParseState(data []byte) (*State, error) {
	f, err := weights.OpenBytes("state", data)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	metadata := f.Metadata()
	switch version := metadata[keyVersion]; version {
	case stateVersion:
	case "":
		return nil, errors.New("a safetensors file without a state")
	default:
		return nil, fmt.Errorf("its format is version %.20q, this program reads version %s: continue with the program that made it", version, stateVersion)
	}
	tensors := make([]weights.Tensor, 0, len(f.Names()))
	for _, name := range f.Names() {
		t, _ := f.Tensor(name)
		if t.DType != weights.F32 {
			return nil, fmt.Errorf("tensor %.40q is %s, not F32", name, t.DType)
		}
		tensors = append(tensors, t)
	}
	if stateSum(tensors, metadata) != metadata[keySum] {
		return nil, errors.New("its checksum is wrong: the file is damaged")
	}
	return decodeState(f, metadata)
}

func decodeState(f *weights.File, metadata map[string]string) (*State, error) {
	s := &State{Model: metadata[keyModel], Config: metadata[keyConfig], Notes: map[string]string{}}
	if err := json.Unmarshal([]byte(metadata[keySettings]), &s.Settings); err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	var err error
	if s.Step, err = strconv.Atoi(metadata[keyStep]); err != nil {
		return nil, fmt.Errorf("step %.20q is no number", metadata[keyStep])
	}
	if s.Precision, err = load.ParsePrecision(metadata[keyPrecision]); err != nil {
		return nil, err
	}
	if s.Linear, err = load.ParseLinear(metadata[keyLinear]); err != nil {
		return nil, err
	}
	if s.Attention, err = load.ParseAttention(metadata[keyAttention]); err != nil {
		return nil, err
	}
	if s.Host, err = load.ParseHostWeights(metadata[keyHost]); err != nil {
		return nil, err
	}
	if text := metadata[keyHashes]; text != "" {
		if err := json.Unmarshal([]byte(text), &s.Hashes); err != nil {
			return nil, fmt.Errorf("hashes: %w", err)
		}
		if err := s.Hashes.check(s.Step); err != nil {
			return nil, err
		}
	}
	if text := metadata[keyRounding]; text != "" {
		if err := json.Unmarshal([]byte(text), &s.Rounding); err != nil {
			return nil, fmt.Errorf("rounding: %w", err)
		}
		if err := s.Rounding.Check(); err != nil {
			return nil, err
		}
	}
	for key, text := range metadata {
		if name, ok := strings.CutPrefix(key, notePrefix); ok {
			s.Notes[name] = text
		}
	}
	latents, ok := f.Tensor(nameLatents)
	if !ok {
		return nil, errors.New("it has no latents")
	}
	s.Latents = latents.Float32s()
	for _, name := range f.Names() {
		if number, ok := strings.CutPrefix(name, nameEarlier); ok {
			step, err := strconv.Atoi(number)
			if err != nil {
				return nil, fmt.Errorf("earlier step %.20q is no number", number)
			}
			t, _ := f.Tensor(name)
			s.Earlier = append(s.Earlier, Earlier{step, t.Float32s()})
		}
	}
	slices.SortFunc(s.Earlier, func(a, b Earlier) int { return a.Step - b.Step })
	if first, ok := f.Tensor(nameFirst); ok {
		s.FirstFrame = first.Float32s()
	}
	for k := 0; ; k++ {
		text, ok := f.Tensor(promptName(k, "text"))
		pooled, both := f.Tensor(promptName(k, "pooled"))
		if !ok || !both {
			return s, nil
		}
		s.Prompts = append(s.Prompts, EncodedPrompt{Text: text.Float32s(), Pooled: pooled.Float32s()})
	}
}
