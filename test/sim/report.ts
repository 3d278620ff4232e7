/** What came of one seed. */
export type Finding = {
  readonly seed: number;
  readonly invariant: string;
  readonly message: string;
};

export type Report = {
  readonly finding: Finding | undefined;
  readonly hash: number;
  readonly steps: number;
  readonly simulatedMs: number;
  readonly processes: number;
  readonly mostBegun: number;
  readonly mostTurns: number;
  /** How long it took in the calm until everything had come right. */
  readonly settleMs: number;
};
