package kandinsky5

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vkandinsky/vkandinsky/engine/enginetest"
	"github.com/vkandinsky/vkandinsky/models/weights"
	"github.com/vkandinsky/vkandinsky/swap"
)

// part returns the open checkpoint of a network.
func (p *Pipeline) part(c weights.Component) *weights.Checkpoint {
	return map[weights.Component]*weights.Checkpoint{weights.DiT: p.nets.dit, weights.VAE: p.nets.vae, weights.Qwen: p.nets.qwen, weights.CLIP: p.nets.clip}[c]
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// header is a safetensors file's table, for tests that spoil it.
type header map[string]*struct {
	DType   string  `json:"dtype"`
	Shape   []int   `json:"shape"`
	Offsets []int64 `json:"data_offsets"`
}

// readHeader returns the table and the place of the first tensor's bytes.
func readHeader(t *testing.T, path string) (header, int64) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := int64(binary.LittleEndian.Uint64(data))
	raw := map[string]json.RawMessage{}
	if err := json.Unmarshal(data[8:8+n], &raw); err != nil {
		t.Fatal(err)
	}
	delete(raw, "__metadata__")
	clean, err := json.Marshal(raw)
	if err != nil {
		t.Fatal(err)
	}
	h := header{}
	if err := json.Unmarshal(clean, &h); err != nil {
		t.Fatal(err)
	}
	return h, 8 + n
}

// writeHeader puts another table before the same tensors.
func writeHeader(t *testing.T, path string, h header, body int64) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	table, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	for len(table)%8 != 0 {
		table = append(table, ' ')
	}
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(table)))
	out = append(append(out, table...), data[body:]...)
	if err := os.WriteFile(path, out, 0o644); err != nil {
		t.Fatal(err)
	}
}

// modelFile finds the only safetensors file of a model's folder.
func modelFile(t *testing.T, dir, folder string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, folder, "*.safetensors"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v, %v", folder, found, err)
	}
	return found[0]
}

// spoil writes a value over some elements of a bf16 tensor.
func spoil(t *testing.T, path, tensor string, bits uint16, from, count int64) {
	t.Helper()
	h, body := readHeader(t, path)
	e := h[tensor]
	if e == nil || e.DType != "BF16" {
		t.Fatalf("%s has no bf16 tensor %s", path, tensor)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for k := range count {
		if _, err := f.WriteAt(binary.LittleEndian.AppendUint16(nil, bits), body+e.Offsets[0]+2*(from+k)); err != nil {
			t.Fatal(err)
		}
	}
}

// checkComplaint demands an error of one line that names all these.
func checkComplaint(t *testing.T, err error, names ...string) {
	t.Helper()
	if err == nil {
		t.Error("no error")
		return
	}
	if strings.ContainsAny(err.Error(), "\n\r") {
		t.Errorf("an error of several lines: %q", err)
	}
	for _, name := range names {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%q does not name %s", err, name)
		}
	}
}

func TestBrokenValuesNameFileAndTensor(t *testing.T) {
	const nan, infinite = 0x7fc0, 0xff80
	d := enginetest.OpenPlain(t)
	for _, c := range []struct {
		folder, tensor string
		bits           uint16
		from           int64
	}{
		{"transformer", "visual_transformer_blocks.2.feed_forward.in_layer.weight", nan, 17},
		{"transformer", "visual_transformer_blocks.3.cross_attention.to_key.bias", infinite, 3},
		{"transformer", "text_transformer_blocks.0.self_attention.query_norm.weight", nan, 0},
		{"transformer", "time_embeddings.in_layer.weight", nan, 100},
		{"vae", "encoder.conv_in.conv.weight", nan, 5},
		{"vae", "decoder.conv_out.conv.bias", infinite, 1},
		{"text_encoder", "model.layers.1.mlp.down_proj.weight", nan, 1000},
		{"text_encoder", "model.embed_tokens.weight", nan, 0}, // of all rows: the row of a token that the prompt has
		{"text_encoder_2", "text_model.encoder.layers.0.self_attn.q_proj.bias", nan, 0},
	} {
		t.Run(c.tensor, func(t *testing.T) {
			dir := smallModel(t)
			path := modelFile(t, dir, c.folder)
			h, _ := readHeader(t, path)
			tensor := c.tensor
			if h[tensor] == nil { // Qwen's names differ between the published arrangements
				tensor = strings.Replace(tensor, "model.", "model.language_model.", 1)
			}
			count := int64(1)
			if strings.Contains(tensor, "embed_tokens") {
				count = (h[tensor].Offsets[1] - h[tensor].Offsets[0]) / 2
			}
			spoil(t, path, tensor, c.bits, c.from, count)
			_, err := attempt(t, t.Context(), d, openSmall(t, dir), Options{BlocksInMemory: 2, HostTier: swap.Mapped}, nil)
			checkComplaint(t, err, filepath.Base(path), strings.TrimPrefix(c.tensor, "model."))
			if !errors.Is(err, weights.ErrNotFinite) {
				t.Errorf("%v is not about a value", err)
			}
			checkEmpty(t, d)
		})
	}
}

func TestBrokenFilesAreRefusedBeforeWork(t *testing.T) {
	folders := map[string]string{"transformer": "visual_embeddings.in_layer.weight", "vae": "decoder.conv_in.conv.weight",
		"text_encoder": "embed_tokens.weight", "text_encoder_2": "text_model.embeddings.token_embedding.weight"}
	named := func(h header, suffix string) string {
		for name := range h {
			if strings.HasSuffix(name, suffix) {
				return name
			}
		}
		return ""
	}
	for folder, suffix := range folders {
		for name, damage := range map[string]func(t *testing.T, dir, path string) (names []string){
			"truncated": func(t *testing.T, dir, path string) []string {
				info, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				truncate(t, path, info.Size()-1)
				return []string{filepath.Base(path)}
			},
			"truncated within the header": func(t *testing.T, dir, path string) []string {
				truncate(t, path, 100)
				return []string{filepath.Base(path)}
			},
			"empty": func(t *testing.T, dir, path string) []string {
				truncate(t, path, 0)
				return []string{filepath.Base(path)}
			},
			"wrong shape": func(t *testing.T, dir, path string) []string {
				h, body := readHeader(t, path)
				e := h[named(h, suffix)]
				e.Shape = append([]int{e.Shape[0] * e.Shape[1], 1}, e.Shape[2:]...)
				writeHeader(t, path, h, body)
				return []string{filepath.Base(path), suffix}
			},
			"wrong type": func(t *testing.T, dir, path string) []string {
				h, body := readHeader(t, path)
				h[named(h, suffix)].DType = "I16"
				writeHeader(t, path, h, body)
				return []string{filepath.Base(path), suffix}
			},
			"missing tensor": func(t *testing.T, dir, path string) []string {
				h, body := readHeader(t, path)
				full := named(h, suffix)
				h["unknown\nname"] = h[full]
				delete(h, full)
				writeHeader(t, path, h, body)
				return []string{folder, suffix}
			},
			"missing file": func(t *testing.T, dir, path string) []string {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				return []string{folder}
			},
		} {
			t.Run(folder+", "+name, func(t *testing.T) {
				dir := smallModel(t)
				names := damage(t, dir, modelFile(t, dir, folder))
				checkComplaint(t, openAll(t, dir), names...)
			})
		}
	}
}

func TestBrokenConfigurationsAreRefusedBeforeWork(t *testing.T) {
	dir := smallModel(t)
	if err := openAll(t, dir); err != nil {
		t.Fatalf("an unspoiled model: %v", err)
	}
	var files []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if ext := filepath.Ext(path); err == nil && !e.IsDir() && (ext == ".json" || ext == ".txt") {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) < 8 {
		t.Fatalf("%d files of a model, %v", len(files), err)
	}
	for _, path := range files {
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for name, bad := range map[string][]byte{
			"cut short": good[:len(good)/2], "no text": {0xff, 0xfe, 0}, "numbers of another size": []byte(strings.NewReplacer("1", "99999999", "2", "-7", "3", "0").Replace(string(good))),
			"an array": []byte("[\n1,\n2]"), "empty": {},
		} {
			t.Run(filepath.Base(filepath.Dir(path))+" "+filepath.Base(path)+", "+name, func(t *testing.T) {
				if err := os.WriteFile(path, bad, 0o644); err != nil {
					t.Fatal(err)
				}
				// Some of these files are not needed, or not in this part; what matters is that nothing panics and that a
				// complaint is one line.
				if err := openAll(t, dir); err != nil {
					checkComplaint(t, err)
				}
			})
		}
		if err := os.WriteFile(path, good, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var number = regexp.MustCompile(`-?[0-9]+(\.[0-9]+)?`)

// Every number of every configuration in turn is replaced by impossible ones: nothing may panic, hang or take all memory.
func TestEveryAbsurdNumberInAConfigurationIsHandled(t *testing.T) {
	dir := smallModel(t)
	for _, folder := range []string{"transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"} {
		name := "config.json"
		if strings.HasPrefix(folder, "tokenizer") {
			name = "tokenizer_config.json"
		}
		path := filepath.Join(dir, folder, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		places := number.FindAllIndex(good, -1)
		if len(places) == 0 {
			t.Fatalf("%s has no numbers", path)
		}
		for _, at := range places {
			for _, absurd := range []string{"0", "-1", "4611686018427387904"} {
				bad := string(good[:at[0]]) + absurd + string(good[at[1]:])
				if err := os.WriteFile(path, []byte(bad), 0o644); err != nil {
					t.Fatal(err)
				}
				stop := enginetest.Deadline(t, hangs, path+" "+absurd)
				if err := openAll(t, dir); err != nil {
					checkComplaint(t, err)
				}
				stop()
			}
		}
		if err := os.WriteFile(path, good, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// openAll opens a model as far as it goes without a device.
func openAll(t *testing.T, dir string) error {
	t.Helper()
	c, err := OpenDiffusers(dir)
	if err != nil {
		return err
	}
	p, err := New(t.Context(), nil, c, Options{})
	if err != nil {
		return err
	}
	return p.Close()
}

func TestMissingPartsAreNamedInOneLine(t *testing.T) {
	c := smallCheckpoint(t)
	config := *c.Config
	config.Model.CheckpointPath, config.Model.VAE.CheckpointPath = "no/dit.safetensors", "no/vae"
	config.Model.Qwen.CheckpointPath, config.Model.CLIP.CheckpointPath = "no/qwen", "no/clip"
	_, err := OpenCheckpoint(&config, t.TempDir())
	checkComplaint(t, err, "no/dit.safetensors", "3 more parts")
	_, err = OpenCheckpoint(&config, filepath.Join(t.TempDir(), "nowhere"))
	checkComplaint(t, err, "nowhere")
	_, err = OpenDiffusers(t.TempDir())
	checkComplaint(t, err)
}

func TestBrokenPicturesAreOneLine(t *testing.T) {
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"empty.png": {}, "text.png": []byte("no\npicture"), "cut.png": []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"), "cut.jpg": {0xff, 0xd8, 0xff, 0xe0, 0, 16},
		"cut.webp": []byte("RIFF\x10\x00\x00\x00WEBPVP8 "),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := LoadImage(path)
		checkComplaint(t, err, name)
	}
	_, err := LoadImage(filepath.Join(dir, "none.png"))
	checkComplaint(t, err, "none.png")
	_, err = LoadImage(dir)
	checkComplaint(t, err)
}
