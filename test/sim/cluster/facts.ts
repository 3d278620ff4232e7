/** What is known of each pod outside of the agent, for the invariants to judge by. */

export type Fact = {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly source: 'api' | 'file';
  readonly cpuMilli: number;
  readonly restartPolicy: string;
  /** Of the cluster, when it was made. */
  readonly version: number;
  /** The shortest grace that anybody gave it. */
  graceSeconds: number;
  /** Somebody deleted it, or wanted it no more; it may be ended from then on. */
  mayEnd: boolean;
  /** It has to end: since when. Not so any more when a restored cluster has it again, or not at all. */
  mustEndMs: number | undefined;
  /** Its object has been gone from its cluster at some time. */
  wasGone: boolean;
  hasRun: boolean;
  /** Its cluster was told of its end, and may have forgotten that with a restore. */
  wasTold: boolean;
  /** Its image was changed since this. */
  changedMs: number;
};

export class Facts {
  readonly all = new Map<string, Fact>();
  /** The cluster was restored from a backup at some time. */
  isRestored = false;

  add(
    fact: Pick<
      Fact,
      | 'uid'
      | 'namespace'
      | 'name'
      | 'source'
      | 'cpuMilli'
      | 'restartPolicy'
      | 'graceSeconds'
      | 'version'
    >,
  ): void {
    for (const other of this.all.values()) {
      if (other.name === fact.name && other.namespace === fact.namespace) other.mayEnd = true;
    }
    this.all.set(fact.uid, {
      ...{
        mayEnd: false,
        mustEndMs: undefined,
        wasGone: false,
        hasRun: false,
        wasTold: false,
        changedMs: -1,
      },
      ...fact,
    });
  }
}
