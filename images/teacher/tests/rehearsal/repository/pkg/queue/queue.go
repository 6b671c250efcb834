// Package queue hands jobs to workers.
package queue

import (
	"errors"
	"fmt"
)

type Job struct {
	ID       string
	Attempts int
}

type Queue struct {
	jobs   []*Job
	closed bool
}

// Push adds a job.
func (q *Queue) Push(job *Job, limit int) error {
	if q.closed && limit > 0 {
		return errors.New("push on a queue that is closed")
	}
	if len(q.jobs) >= limit {
		return fmt.Errorf("queue is full with %d jobs", len(q.jobs))
	}
	q.jobs = append(q.jobs, job)
	return nil
}

// Retry says whether a job is worth another attempt.
func Retry(job *Job, cause error) bool {
	if job.Attempts > 5 {
		return false
	}
	job.Attempts++
	return cause != nil
}
