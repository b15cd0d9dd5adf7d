package tokenizer

import (
	"fmt"
	"slices"
	"strings"
)

// Prompt is a padded sequence for an encoder.
type Prompt struct {
	IDs  []int32 // padded on the right
	Mask []bool  // true for real tokens; same length
	Crop int     // rows to drop from the front of the encoder's output, and of Mask
}

// Valid is the number of real tokens.
func (p Prompt) Valid() int {
	n := 0
	for _, real := range p.Mask {
		if real {
			n++
		}
	}
	return n
}

// CropStart is how many rows to drop for a template: upstream's constant when the vocabulary is the published one,
// else the tokens counted before the prompt (and for ImageEdit three more, as upstream has it).
func (t *Tokenizer) CropStart(tpl Template) int {
	t.must(qwen, "CropStart")
	if t.published {
		return tpl.CropStart
	}
	return len(t.Encode(tpl.prefix())) + tpl.extraCrop
}

// EncodePrompt fills a template and makes a sequence of maxLength + CropStart ids, of which the encoder keeps the last
// maxLength rows. Longer prompts are cut on the right, which loses the template's end; shorter ones are padded on the
// right (kandinsky-5, kandinsky/models/text_embedders.py).
func (t *Tokenizer) EncodePrompt(tpl Template, prompt string, maxLength int) (Prompt, error) {
	t.must(qwen, "EncodePrompt")
	if maxLength < 1 {
		return Prompt{}, fmt.Errorf("tokenizer: prompt length %d, want at least 1", maxLength)
	}
	crop := t.CropStart(tpl)
	ids := t.Encode(tpl.Fill(prompt))
	return t.padded(ids, maxLength+crop, crop), nil
}

// EncodeCLIP makes CLIP's sequence of a bare caption: start token, at most length - 2 tokens, end token, padding. The
// end token survives when the caption is cut.
func (t *Tokenizer) EncodeCLIP(caption string, length int) (Prompt, error) {
	t.must(clip, "EncodeCLIP")
	if length < 2 {
		return Prompt{}, fmt.Errorf("tokenizer: CLIP sequence of %d tokens, want at least 2", length)
	}
	ids := t.Encode(caption)
	ids = slices.Insert(ids[:min(len(ids), length-2)], 0, t.bos)
	return t.padded(append(ids, t.eos), length, 0), nil
}

// padded cuts or pads ids to a length.
func (t *Tokenizer) padded(ids []int32, length, crop int) Prompt {
	p := Prompt{IDs: make([]int32, length), Mask: make([]bool, length), Crop: crop}
	n := copy(p.IDs, ids)
	for i := range p.IDs {
		if i < n {
			p.Mask[i] = true
		} else {
			p.IDs[i] = t.pad
		}
	}
	return p
}

// must panics when a method of one family is called on the other's tokenizer.
func (t *Tokenizer) must(want kind, method string) {
	if t.kind != want {
		panic(fmt.Sprintf("tokenizer.%s: called on a %s tokenizer, needs a %s one", method, t.kind, want))
	}
}

// ImagePlace says where a chat message shows its image.
type ImagePlace uint8

// The places of the image: none for text to video or image, before the text for image to video, after it for image
// editing.
const (
	NoImage ImagePlace = iota
	ImageBefore
	ImageAfter
)

// ImagePad is the token that stands for one merged cell of an image.
const ImagePad = "<|image_pad|>"

const imageMark = "<|vision_start|>" + ImagePad + "<|vision_end|>"

// Chat is the text of a conversation with one message of the user, up to where the assistant answers: the chat
// template of Qwen/Qwen2.5-VL-7B-Instruct, tokenizer_config.json. It holds one ImagePad per image; see RepeatImagePads.
func Chat(text string, image ImagePlace) string {
	var b strings.Builder
	b.WriteString("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n")
	if image == ImageBefore {
		b.WriteString(imageMark)
	}
	b.WriteString(text)
	if image == ImageAfter {
		b.WriteString(imageMark)
	}
	b.WriteString("<|im_end|>\n<|im_start|>assistant\n")
	return b.String()
}

// RepeatImagePads replaces the i-th ImagePad of ids by cells[i] of them, the number of merged cells of image i
// (transformers, models/qwen2_5_vl/processing_qwen2_5_vl.py). The numbers of pads and of images must agree.
func (t *Tokenizer) RepeatImagePads(ids []int32, cells ...int) ([]int32, error) {
	pad, ok := t.ID(ImagePad)
	if !ok {
		return nil, fmt.Errorf("tokenizer: the vocabulary has no %s token", ImagePad)
	}
	var out []int32
	image := 0
	for _, id := range ids {
		if id != pad {
			out = append(out, id)
			continue
		}
		if image == len(cells) {
			return nil, fmt.Errorf("tokenizer: the text holds more %s than there are images (%d)", ImagePad, len(cells))
		}
		out = append(out, slices.Repeat([]int32{pad}, cells[image])...)
		image++
	}
	if image != len(cells) {
		return nil, fmt.Errorf("tokenizer: the text holds %d %s but there are %d images", image, ImagePad, len(cells))
	}
	return out, nil
}
