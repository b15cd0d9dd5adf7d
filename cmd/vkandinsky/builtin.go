package main

import (
	"log/slog"

	"github.com/vkandinsky/vkandinsky/configs"
	"github.com/vkandinsky/vkandinsky/models/kandinsky5"
	"github.com/vkandinsky/vkandinsky/models/tiny"
)

// inProgram says whether the model of a configuration that config returned is the one inside the program.
func (m *modelFlags) inProgram(config *configs.Config) bool {
	return config.Name == tiny.ConfigName && config.Dir == "" && m.dir == ""
}

// completePicture gives a request of the model inside the program the first frame that comes with it, where none is named.
func (m *modelFlags) completePicture(config *configs.Config, r *kandinsky5.Request) (err error) {
	if m.inProgram(config) && r.Image == nil {
		r.Image, err = tiny.Picture()
	}
	return err
}

// announce says that the model inside the program is used, and with which first frame: a newcomer should not take it for
// what the published models can do.
func (m *modelFlags) announce(config *configs.Config, picture string, log *slog.Logger) {
	if !m.inProgram(config) {
		return
	}
	if picture == "" {
		picture = tiny.PictureName + " (built in)"
	}
	text := "this is the small model inside the program, which knows one coloured shape that moves"
	if m.configName == "" {
		text += "; --config selects a real model"
	}
	log.Info(text, "config", config.Name, "picture", picture)
}
