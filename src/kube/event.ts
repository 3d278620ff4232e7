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
  /** The API server knows this object, so it is told of its events. */
  readonly inApi?: true;
};

/** An event about to be recorded: the recorder adds times and counts. */
export type NewEvent = Pick<EventRecord, 'type' | 'reason' | 'message' | 'object'>;

/** What of an event the API server has been told. */
export type Delivered = {
  /** So many of the record's `count`. */
  readonly count: number;
  /** The count of the Event that it shares with similar ones; 0 when it has an Event of its own. */
  readonly combined: number;
};

/** An event of an object that the API server knows, and how far it was delivered. */
export type Delivery = {
  /** The same for the same event. */
  readonly key: string;
  readonly record: EventRecord;
  readonly delivered: Delivered;
};
