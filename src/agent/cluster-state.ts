/** How this node stands with its cluster, for people. */
import type { Clock } from '../base/clock.ts';
import type { Fault } from '../base/failure.ts';
import { rfc3339OfMs } from '../pod/reduce.ts';
import type { ClusterReport } from '../server/api.ts';
import type { Validity } from './certificate-files.ts';

/** What can be wrong, in the order in which it matters. */
type Part = 'credentials' | 'certificate' | 'identity' | 'lease' | 'node' | 'servingCertificate';

export class ClusterState {
  readonly #clock: Clock;
  readonly #kubeconfig: string;
  readonly #validity: () => Validity | undefined;
  readonly #faults = new Map<Part, Fault>();
  #phase: ClusterReport['phase'] = 'connecting';
  #sinceWallMs: number;
  #server: string | undefined;
  #heardWallMs: number | undefined;
  #nodeUid: string | undefined;

  /** @param validity Of the client certificate. */
  constructor(clock: Clock, kubeconfig: string, validity: () => Validity | undefined) {
    this.#clock = clock;
    this.#kubeconfig = kubeconfig;
    this.#validity = validity;
    this.#sinceWallMs = clock.now().wallMs;
  }

  /** There are no credentials of our own yet. */
  joining(): void {
    this.#enter('joining');
  }

  connecting(server: string): void {
    this.#server = server;
    this.#faults.delete('credentials');
    this.#enter('connecting');
  }

  registered(uid: string): void {
    this.#nodeUid = uid;
  }

  /** How the last try of a part went. */
  failed(part: Part, fault: Fault | undefined): void {
    if (fault === undefined) this.#faults.delete(part);
    else this.#faults.set(part, fault);
    if (part !== 'lease' && part !== 'node') return;
    if (fault === undefined) {
      this.#heardWallMs = this.#clock.now().wallMs;
      this.#enter('connected');
    } else if (part === 'lease') this.#enter('offline');
    else if (this.#phase === 'connecting') this.#enter('offline');
  }

  report(): ClusterReport {
    const order: readonly Part[] = [
      ...(['credentials', 'certificate', 'identity', 'lease', 'node'] as const),
      'servingCertificate',
    ];
    const fault = order.map((part) => this.#faults.get(part)).find((one) => one !== undefined);
    const until = this.#validity()?.notAfterMs;
    const time = (ms: number) => rfc3339OfMs(ms);
    return {
      kubeconfig: this.#kubeconfig,
      phase: this.#phase,
      since: time(this.#sinceWallMs),
      registered: this.#nodeUid !== undefined,
      ...(this.#server !== undefined && { server: this.#server }),
      ...(this.#heardWallMs !== undefined && { lastHeard: time(this.#heardWallMs) }),
      ...(this.#nodeUid !== undefined && { nodeUid: this.#nodeUid }),
      ...(until !== undefined && { certificateExpires: time(until) }),
      ...(fault !== undefined && { message: fault.message }),
    };
  }

  #enter(phase: ClusterReport['phase']): void {
    if (phase === this.#phase) return;
    this.#phase = phase;
    this.#sinceWallMs = this.#clock.now().wallMs;
  }
}
