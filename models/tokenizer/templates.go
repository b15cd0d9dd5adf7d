package tokenizer

import "strings"

// Template is a text with "{}" where the prompt goes. The encoder's rows before the prompt are cut off.
type Template struct {
	Name string
	Text string
	// CropStart is how many rows upstream cuts off, a constant beside the template. It equals the number of tokens
	// before "{}" in the published vocabulary, except in ImageEdit.
	CropStart int
	// extraCrop is by how much CropStart exceeds the number of tokens before "{}".
	extraCrop int
}

// prefix is the text before the prompt.
func (t Template) prefix() string {
	before, _, _ := strings.Cut(t.Text, "{}")
	return before
}

// Fill puts a prompt into the template.
func (t Template) Fill(prompt string) string { return strings.Replace(t.Text, "{}", prompt, 1) }

// Templates lists the templates (kandinsky-5, kandinsky/models/text_embedders.py). Spelling errors are part of the
// data: the networks were trained with them.
func Templates() []Template { return []Template{Video(), Image2Video(), Image(), ImageEdit()} }

// Video is the template of every video, also of those that start from an image.
func Video() Template { return Template{Name: "video", Text: videoText, CropStart: 129} }

// Image2Video is there for completeness: upstream has it but never selects it.
func Image2Video() Template {
	return Template{Name: "image2video", Text: image2videoText, CropStart: 132}
}

// Image is the template of a single image without a source image, also when a video model makes one.
func Image() Template { return Template{Name: "image", Text: imageText, CropStart: 41} }

// ImageEdit is the template of image editing. Upstream cuts 55 rows though only 52 tokens stand before the prompt, so
// the prompt's first three tokens are lost; the networks were trained that way. Images and the closing <|im_end|>
// follow the prompt.
func ImageEdit() Template {
	return Template{Name: "image_edit", Text: imageEditText, CropStart: 55, extraCrop: 3}
}

const videoText = "<|im_start|>system\n" +
	"You are a promt engineer. Describe the video in detail.\n" +
	"Describe how the camera moves or shakes, describe the zoom and view angle, whether it follows the objects.\n" +
	"Describe the location of the video, main characters or objects and their action.\n" +
	"Describe the dynamism of the video and presented actions.\n" +
	"Name the visual style of the video: whether it is a professional footage, user generated content, some kind of animation, video game or scren content.\n" +
	"Describe the visual effects, postprocessing and transitions if they are presented in the video.\n" +
	"Pay attention to the order of key actions shown in the scene.<|im_end|>\n" +
	"<|im_start|>user\n" +
	"{}<|im_end|>"

const image2videoText = "<|im_start|>system\n" +
	"You are a promt engineer. Your task is to create a highly detailed and effective video description based on a provided input image.\n" +
	"Describe how the camera moves or shakes, describe the zoom and view angle, whether it follows the objects.\n" +
	"Describe main characters actions.\n" +
	"Describe the dynamism of the video and presented actions.\n" +
	"Name the visual style of the video: whether it is a professional footage, user generated content, some kind of animation, video game or scren content.\n" +
	"Describe the visual effects, postprocessing and transitions if they are presented in the video.\n" +
	"Pay attention to the order of key actions shown in the scene.<|im_end|>\n" +
	"<|im_start|>user\n" +
	"{}<|im_end|>"

const imageText = "<|im_start|>system\n" +
	"You are a promt engineer. Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships of the objects and background:<|im_end|>\n" +
	"<|im_start|>user\n" +
	"{}<|im_end|>"

const imageEditText = "<|im_start|>system\n" +
	"You are a promt engineer. Based on the provided source image (first image) and target image (second image), create an interesting text prompt that can be used together with the source image to create the target image:<|im_end|>\n" +
	"<|im_start|>user\n" +
	"{}"
