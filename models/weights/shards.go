package weights

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

const (
	fileSuffix  = ".safetensors"
	indexSuffix = ".safetensors.index.json"
	// maxJSON bounds the index and configuration files, in bytes; the largest published index is about 150 kB.
	maxJSON = 64 << 20
)

// shardSet is the files of one network. shardOf maps tensor names to files; it is nil without an index.
type shardSet struct {
	files   []string
	shardOf map[string]string
}

// findShards resolves a checkpoint path to its files.
func findShards(path string) (shardSet, error) {
	info, err := os.Stat(path)
	if err != nil {
		return shardSet{}, fmt.Errorf("open checkpoint: %w", err)
	}
	if !info.IsDir() {
		if strings.HasSuffix(path, indexSuffix) {
			return readIndex(path)
		}
		return shardSet{files: []string{path}}, nil
	}
	single, indexes, err := listFolder(path)
	if err != nil {
		return shardSet{}, err
	}
	switch {
	case len(indexes) == 1:
		return readIndex(indexes[0])
	case len(indexes) > 1:
		return shardSet{}, fmt.Errorf("%s: several index files (%s): name the one to use", path, baseNames(indexes))
	case len(single) == 1:
		return shardSet{files: single}, nil
	case len(single) == 0:
		return shardSet{}, fmt.Errorf("%s: no .safetensors or .gguf file in this folder", path)
	}
	return shardSet{}, fmt.Errorf("%s: several checkpoint files and no index (%s): name the one to use", path, baseNames(single))
}

// listFolder returns the checkpoint files and the index files of a folder, sorted: safetensors files, and GGUF files where
// there is none of those.
func listFolder(dir string) (single, indexes []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("open checkpoint: %w", err)
	}
	var gguf []string
	for _, e := range entries {
		switch name := e.Name(); {
		case e.IsDir() || strings.HasPrefix(name, "."): // macOS leaves "._*" companions on foreign disks
		case strings.HasSuffix(name, indexSuffix):
			indexes = append(indexes, filepath.Join(dir, name))
		case strings.HasSuffix(name, fileSuffix):
			single = append(single, filepath.Join(dir, name))
		case strings.HasSuffix(name, ggufSuffix):
			gguf = append(gguf, filepath.Join(dir, name))
		}
	}
	if len(single)+len(indexes) == 0 {
		single = gguf
	}
	return single, indexes, nil
}

func baseNames(paths []string) string {
	names := make([]string, len(paths))
	for i, p := range paths {
		names[i] = filepath.Base(p)
	}
	return strings.Join(names, ", ")
}

// readIndex reads {"metadata": {...}, "weight_map": {tensor: file}} and checks that the files exist.
func readIndex(path string) (shardSet, error) {
	data, err := readBounded(path, maxJSON)
	if err != nil {
		return shardSet{}, err
	}
	weightMap, err := parseIndex(data)
	if err != nil {
		return shardSet{}, fmt.Errorf("%s: %w", path, err)
	}
	set := shardSet{shardOf: make(map[string]string, len(weightMap))}
	dir := filepath.Dir(path)
	seen := map[string]bool{}
	for name, shard := range weightMap {
		full := filepath.Join(dir, filepath.FromSlash(shard))
		set.shardOf[name] = full
		if !seen[full] {
			seen[full] = true
			set.files = append(set.files, full)
		}
	}
	sort.Strings(set.files)
	for _, f := range set.files {
		if _, err := os.Stat(f); err != nil {
			return shardSet{}, fmt.Errorf("%s: shard %s named by the index cannot be opened: %w", path, filepath.Base(f), err)
		}
	}
	return set, nil
}

// parseIndex returns the weight map. Shard names must stay inside the index's folder.
func parseIndex(data []byte) (map[string]string, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	var weightMap map[string]string
	err := eachKey(dec, func(key string) error {
		if key != "weight_map" {
			var skipped json.RawMessage
			return dec.Decode(&skipped)
		}
		if weightMap != nil {
			return errors.New("weight_map given twice")
		}
		weightMap = map[string]string{}
		return parseWeightMap(dec, weightMap)
	})
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("index: text after its closing brace")
	}
	if len(weightMap) == 0 {
		return nil, errors.New("index: no weight_map, or an empty one")
	}
	return weightMap, nil
}

func parseWeightMap(dec *json.Decoder, weightMap map[string]string) error {
	return eachKey(dec, func(name string) error {
		tok, err := dec.Token()
		if err != nil {
			return jsonError(err)
		}
		shard, ok := tok.(string)
		if !ok {
			return fmt.Errorf("tensor %q: file name is not a string", name)
		}
		if _, dup := weightMap[name]; dup {
			return fmt.Errorf("tensor %q named twice", name)
		}
		if !filepath.IsLocal(filepath.FromSlash(shard)) || strings.Contains(shard, `\`) || !strings.HasSuffix(shard, fileSuffix) {
			return fmt.Errorf("tensor %q: %q is not a .safetensors file inside the folder", name, shard)
		}
		weightMap[name] = shard
		return nil
	})
}

// readBounded reads a whole file of at most limit bytes.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes, which is no plausible size for it", path, limit)
	}
	return data, nil
}
