/** The probe loops of the agent model: what src/agent/probes.ts does, on simulated time. */
import type { ProbeWanted, Streak } from '../../src/pod/health.ts';
import { NO_STREAK, counted, probesOf } from '../../src/pod/health.ts';
import type { PodEvent } from '../../src/pod/model.ts';
import type { AgentPorts, Worker } from './agent.ts';
import { between, chance } from './choose.ts';
import type { Entry } from './queue.ts';
import { callOff } from './queue.ts';

type Loop = {
  readonly wanted: ProbeWanted;
  streak: Streak;
  entry: Entry | undefined;
  told: string;
};

/** What a probe said comes again, up to this much later. */
const AGAIN_MS = 10_000;

export class Probing {
  readonly #ports: AgentPorts;
  readonly #post: (uid: string, event: PodEvent) => void;
  readonly #loops = new Map<string, Map<string, Loop>>();

  constructor(ports: AgentPorts, post: (uid: string, event: PodEvent) => void) {
    this.#ports = ports;
    this.#post = post;
  }

  follow({ uid, want, seen }: Worker): void {
    const loops = this.#loops.get(uid) ?? new Map<string, Loop>();
    this.#loops.set(uid, loops);
    const wanted = new Map(probesOf(want, seen).map((one) => [`${one.id}/${one.probe}`, one]));
    for (const [key, loop] of loops) {
      if (wanted.has(key)) continue;
      callOff(loop.entry);
      loops.delete(key);
    }
    for (const [key, one] of wanted) {
      if (loops.has(key)) continue;
      const loop: Loop = { wanted: one, streak: NO_STREAK, entry: undefined, told: '' };
      loops.set(key, loop);
      const { initialDelaySeconds, periodSeconds } = one.spec;
      const jitterMs = between(this.#ports.random, 0, periodSeconds * 1000);
      this.#later(uid, loop, initialDelaySeconds * 1000 + jitterMs);
    }
  }

  /** The agent died. */
  abandon(): void {
    for (const loops of this.#loops.values())
      for (const { entry } of loops.values()) callOff(entry);
    this.#loops.clear();
  }

  #later(uid: string, loop: Loop, inMs: number): void {
    loop.entry = this.#ports.schedule(inMs, () => this.#ask(uid, loop));
  }

  #ask(uid: string, loop: Loop): void {
    const { world, random, schedule } = this.#ports;
    const { id, probe, spec, container } = loop.wanted;
    const result = world.probe(id, probe, spec);
    this.#later(uid, loop, spec.periodSeconds * 1000);
    if (result === undefined) return;
    const { streak, verdict } = counted(loop.streak, result, spec);
    loop.streak = streak;
    if (verdict === undefined || verdict === loop.told) return;
    loop.told = verdict;
    const event: PodEvent = { type: 'Probed', name: container.name, id, probe, result: verdict };
    schedule(between(random, 0, 50), () => this.#post(uid, event));
    if (!chance(random, 0.1)) return;
    schedule(between(random, 0, AGAIN_MS), () => {
      // As if it had been long on its way: it comes when the run that it is of is over.
      const isOver = this.#loops.get(uid)?.get(`${id}/${probe}`) !== loop;
      if (isOver) this.#post(uid, event);
    });
  }
}
