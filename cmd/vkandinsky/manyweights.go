package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vkandinsky/vkandinsky/internal/oneline"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/lora"
	"github.com/vkandinsky/vkandinsky/models/receipt"
	"github.com/vkandinsky/vkandinsky/models/weights"
)

// sameConfig notes the configuration of a batch, or refuses one that was changed since the batch was begun.
func (m *many) sameConfig() error {
	if len(m.clips) == 0 {
		return nil
	}
	config := m.clips[0].job.checkpoint.Config
	sum, err := configDigest(config)
	if err != nil {
		return err
	}
	if was := m.batch.Config; was != "" && was != sum {
		return badInputf("%s: the configuration %.200q is not as it was when the batch was begun: put it back, or begin a new batch", m.path, config.Name)
	}
	m.batch.Config = sum
	return nil
}

// sameWeights notes the weights of a batch, or refuses others than it was begun with: its clips would be of two models.
func (m *many) sameWeights(ctx context.Context, p *kandinsky5.Pipeline) error {
	list, err := fingerprints(ctx, p, m.log)
	if err != nil || list == nil {
		return err
	}
	list = slices.DeleteFunc(slices.Clone(list), func(w receipt.Weights) bool { return w.Network == "lora" }) // those are the clips'
	if m.batch.Weights == nil {
		m.batch.Weights = list
		return nil
	}
	var other []string
	for _, d := range receipt.CompareWeights(m.batch.Weights, list) {
		other = append(other, fmt.Sprintf("%.40q", d.Name))
	}
	if other != nil {
		return badInputf("%s: the weights of %s are not those that the batch was begun with: put them back, or begin a new batch", m.path, strings.Join(other, " and "))
	}
	return nil
}

// sameAdapters notes the adapters' files of a clip, or refuses those that were changed since.
func (c *batchClip) sameAdapters(sources []lora.Source) error {
	var sums []string
	for k, s := range sources {
		sum, err := adapterSum(s.Path)
		if err != nil {
			return badInput(err)
		}
		if c.Adapters != nil && (k >= len(c.Adapters) || c.Adapters[k] != sum) {
			return badInputf("the LoRA adapter %s has changed since the clip was asked for: put it back, or begin anew", s.Path)
		}
		sums = append(sums, sum)
	}
	c.Adapters = sums
	return nil
}

// adapterSum is the fingerprint of an adapter's file.
func adapterSum(path string) (string, error) {
	f, err := weights.Open(path)
	if err != nil {
		return "", err
	}
	list, err := receipt.Fingerprint(context.Background(), "lora", []*weights.File{f}, "")
	if err = oneline.Join(err, f.Close()); err != nil {
		return "", err
	}
	return list[0].SHA256, nil
}
