"""What the type checker must refuse about errors."""

from fastapi_prodkit import ProblemError, ProblemMiddleware, Problems, problem, raise_for_problem, raises

problem(status="409")  # error: arg-type
problem(status=409, retry=True)  # error: call-arg
problem(409)  # error: call-arg
ProblemError("409")  # error: arg-type
Problems("/problems/")  # error: call-arg
Problems().register(ValueError, status=400, members=[1])  # error: list-item
raises("409")  # error: arg-type
raise_for_problem({"status_code": 409})  # error: arg-type
ProblemMiddleware(Problems())  # error: arg-type


@problem(status=409)
class NoException:  # error: type-var
    pass


@raises(404)
def endpoint(number: int) -> str:
    return str(number)


endpoint("a string")  # error: arg-type
