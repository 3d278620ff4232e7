/** Something worth telling a person, as in `kubectl get events`. */
export type EventRecord = {
  readonly type: 'Normal' | 'Warning';
  /** The kubelet's word (`Pulled`, `BackOff`), see reason.ts. */
  readonly reason: string;
  readonly message: string;
  readonly object: EventObject;
  readonly firstWallMs: number;
  readonly lastWallMs: number;
  readonly count: number;
};

export type EventObject = {
  readonly kind: 'Pod' | 'Node' | 'Manifest';
  readonly namespace?: string;
  /** Of a manifest: the path of the file, or `apply`. */
  readonly name: string;
  readonly uid?: string;
  /** `spec.containers{web}` */
  readonly fieldPath?: string;
};

/** An event about to be recorded: the recorder adds times and counts. */
export type NewEvent = Pick<EventRecord, 'type' | 'reason' | 'message' | 'object'>;
