package kandinsky5

import (
	"context"

	"github.com/vkandinsky/vkandinsky/engine"
	"github.com/vkandinsky/vkandinsky/models/lora"
)

// Plan plans a request for the pipeline's device, of which all is taken to be free that the budget allows.
func (p *Pipeline) Plan(r Request) (*MemoryPlan, error) {
	return p.planWithin(r, p.limits())
}

func (p *Pipeline) planWithin(r Request, limits PlanLimits) (*MemoryPlan, error) {
	planner, err := p.planner(p.opts, r, limits)
	if err != nil {
		return nil, err
	}
	return planner.run()
}

func (p *Pipeline) planner(o Options, r Request, limits PlanLimits) (*planner, error) {
	planner, err := newPlanner(p.ckpt.Config, o, r, limits)
	if err != nil {
		return nil, err
	}
	planner.nets, planner.tok, planner.unpacked = p.planNetworks(), p.qwenTok, r.unpackedBefore()
	if err := p.adapting(r, func(set *lora.Set) error { planner.adapt(set, r); return nil }); err != nil {
		return nil, err
	}
	planner.limits.Rates.Compute = p.device.Rates().Compute[p.rateKey()]
	return planner, nil
}

// choose makes the plan and, with Options.Auto, puts its choice into force. A transformer that was kept in another way
// is taken from the device.
func (g *run) choose(r Request) error {
	g.device.WatchMemory()
	plan, err := g.Plan(r)
	if !g.opts.Auto {
		g.plan = plan
		return nil // a run that follows no plan fails where it does not fit
	}
	if err != nil {
		return err
	}
	if g.plan = plan; !plan.Fits {
		return plan.Error(g.limits())
	}
	g.auto, g.opts = true, plan.Choice.Apply(g.opts)
	if g.dit == nil {
		return nil
	}
	if g.heldAs(plan) {
		return nil
	}
	return g.freeTransformer()
}

// Rates returns how fast the device is known to be at this pipeline's work; zero rates are not known. The rate of the bus
// is measured if it never was.
func (p *Pipeline) Rates(ctx context.Context) (Rates, error) {
	known := p.device.Rates()
	r := Rates{Compute: known.Compute[p.rateKey()], Bus: known.Bus, Shared: p.device.SharedQueue()}
	if r.Bus > 0 {
		return r, nil
	}
	var err error
	if r.Bus, err = p.device.MeasureBus(ctx); err != nil {
		return r, err
	}
	known.Bus = r.Bus
	p.keep(known)
	return r, nil
}

// keep keeps rates for later runs. A cache folder that cannot be written is worth a warning, not a run.
func (p *Pipeline) keep(r engine.Rates) {
	if err := p.device.SaveRates(r); err != nil {
		p.log.Warn("the device's rates are not kept", "error", err)
	}
}

func (p *Pipeline) rateKey() string {
	return RateKey(p.ckpt.Config, p.opts, p.device.Caps().Tier)
}

// learn keeps the rate that the run computed with, for the predictions of later ones.
func (g *run) learn() {
	if g.plan == nil {
		return
	}
	rate := g.plan.MeasuredRate(g.stats.Timing)
	if rate <= 0 {
		return
	}
	r := g.device.Rates()
	all := map[string]float64{g.rateKey(): rate}
	for key, other := range r.Compute {
		if key != g.rateKey() {
			all[key] = other
		}
	}
	g.keep(engine.Rates{Bus: r.Bus, Compute: all})
}
