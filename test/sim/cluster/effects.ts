/** What actions do to the simulated machine, and when; the answers are promises, as in src/agent. */
import { Failure } from '../../../src/base/failure.ts';
import type { Random } from '../../../src/base/random.ts';
import type { Worker } from '../../../src/agent/turns.ts';
import type { Action, ActionResult, View } from '../../../src/pod/model.ts';
import { between, chance } from '../choose.ts';
import { perform } from '../perform.ts';
import type { World } from '../world.ts';
import type { Life, Time } from './time.ts';

export type EffectsPorts = {
  readonly time: Time;
  readonly random: Random;
  readonly world: World;
  readonly life: Life;
  /** How often an effect fails. */
  readonly badLuck: () => number;
  /** The agent has died: what it asked the runtime for may happen all the same. */
  readonly mayHappenLate: () => boolean;
  readonly onView: (uid: string, view: View) => void;
};

const LONG_MS: Partial<Record<Action['type'], number>> = {
  PullImage: 4000,
  RunPodSandbox: 800,
  StopPodSandbox: 300,
};
const USUAL_MS = 150;
const IN_PROCESS: ReadonlySet<Action['type']> = new Set([
  'SetUpPod',
  'TearDownPod',
  'SetUpVolume',
  'TearDownVolume',
]);

export function createEffects(ports: EffectsPorts) {
  const { time, random, world, life, badLuck, mayHappenLate, onView } = ports;
  const state = { lookSeq: 0 };

  const look = (uid: string, seq: number): View => ({
    ...{ seq, epoch: `e${world.epoch}` },
    sandboxes: world.sandboxesOf(uid),
    containers: world.containersOf(uid),
  });

  const stop = (
    action: Extract<Action, { type: 'StopContainer' }>,
    signal: AbortSignal,
    end: (result: ActionResult) => void,
  ) => {
    const stopping = world.stopContainer(action.id, action.graceSeconds * 1000, end);
    const onAbort = () => {
      stopping.abandon();
      end({ ok: false, fault: { code: 'Cancelled', message: 'given up' } });
    };
    signal.addEventListener('abort', onAbort, { once: true });
  };

  const execute = (worker: Worker, action: Action, signal: AbortSignal): Promise<ActionResult> => {
    const { uid } = worker;
    const { epoch, cuts } = world;
    const seq = action.type === 'Look' ? (state.lookSeq += 1) : 0;
    return new Promise((resolve, reject) => {
      const end = (result: ActionResult) => {
        time.schedule(between(random, 1, 20), () => {
          if (!life.isDead) resolve(result);
        });
      };
      const fail = (message: string) => {
        if (!life.isDead) reject(new Failure('Unavailable', message));
      };
      const isUnlucky = chance(random, badLuck());
      const [low, high] = [1, LONG_MS[action.type] ?? USUAL_MS];
      time.schedule(between(random, low, high), () => {
        if (life.isDead && (world.cuts !== cuts || !mayHappenLate())) return;
        const isOwn = IN_PROCESS.has(action.type);
        if (isOwn ? life.isDead : !world.isUp || world.epoch !== epoch) {
          return fail('the runtime went away');
        }
        if (signal.aborted && action.type !== 'Look') return fail('given up');
        if (isUnlucky) return fail('bad luck');
        if (action.type === 'StopContainer') return stop(action, signal, end);
        if (action.type === 'Look') onView(uid, look(uid, seq));
        end(perform(world, uid, action, life.isDead));
      });
    });
  };
  return { execute, lookSeq: () => state.lookSeq };
}
