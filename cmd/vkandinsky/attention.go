package main

import (
	"github.com/spf13/pflag"

	"github.com/vkandinsky/vkandinsky/models/load"
)

// attentionFlag is --attention-engine. Names that mean the same are the same value.
type attentionFlag struct {
	engine load.Attention
	asked  string // the name that was given
}

const attentionUsage = "`ENGINE` as the reference program knows them: auto, sdpa, flash_attention_2 and flash_attention_3 all mean this program's own kernels; " +
	"sage multiplies queries and keys of the visual self-attention as 8-bit integers, which is coarser and runs on any device, faster only on matrix units that multiply bytes; " +
	"the configuration's attention_engine is without effect"

func (a *attentionFlag) register(f *pflag.FlagSet) { f.Var(a, "attention-engine", attentionUsage) }

// String and Set are those of a pflag.Value.
func (a *attentionFlag) String() string { return a.engine.String() }

// Set takes a name.
func (a *attentionFlag) Set(s string) (err error) {
	a.engine, err = load.ParseAttention(s)
	a.asked = s
	return err
}

// Type is shown where usage names no value.
func (a *attentionFlag) Type() string { return "string" }

// sage tells whether scores are to be products of bytes.
func (a *attentionFlag) sage() bool { return a.engine == load.AttentionSage }

// checked refuses what a precision excludes.
func (a *attentionFlag) checked(p load.Precision) (load.Attention, error) {
	if a.sage() && p != load.Mixed {
		return a.engine, badInputf("--attention-engine sage needs --precision mixed: it rounds queries and keys to 8 bits")
	}
	return a.engine, nil
}
